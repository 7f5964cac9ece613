//! Behind nginx, as Conduit's guide sets it up: tiers of their own, and what a proxy does to requests and streams.

mod passing;
mod tiers;

/// The two servers of the guide, for these ports, in front of these addresses. What the guide reads from files and
/// names is put in its place: certificate, ports, hosts, and how long a silence may last.
pub fn guide(listen: [u16; 2], core: &[String], admin: &[String], silence: &str) -> String {
    let upstream = |name: &str, urls: &[String]| {
        let servers = urls.iter().map(|url| {
            let address = url.strip_prefix("http://").unwrap();
            format!("        server {address} max_fails=3 fail_timeout=30s;\n")
        });
        format!("    upstream {name} {{\n        least_conn;\n{}    }}\n", servers.collect::<String>())
    };
    let tls = "        ssl_certificate cert.pem;\n        ssl_certificate_key key.pem;\n";
    let forwarded = "            proxy_set_header Host $host;\n\
        \x20           proxy_set_header X-Real-IP $remote_addr;\n\
        \x20           proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
        \x20           proxy_set_header X-Forwarded-Proto $scheme;\n";
    let upgrade = "            proxy_http_version 1.1;\n\
        \x20           proxy_set_header Upgrade $http_upgrade;\n\
        \x20           proxy_set_header Connection \"upgrade\";\n";
    let [api, operators] = listen;
    [
        upstream("conduit_core_api", core),
        upstream("conduit_admin_api", admin),
        format!("    server {{\n        listen 127.0.0.1:{api} ssl http2;\n{tls}"),
        format!("        location /v1/ {{\n            proxy_pass http://conduit_core_api;\n{forwarded}{upgrade}"),
        format!("            proxy_connect_timeout {silence};\n            proxy_send_timeout {silence};\n"),
        format!("            proxy_read_timeout {silence};\n        }}\n"),
        format!("        location /hubs/ {{\n            proxy_pass http://conduit_core_api;\n{upgrade}"),
        "            proxy_set_header Host $host;\n            proxy_cache_bypass $http_upgrade;\n        }\n".into(),
        "        location /health {\n            proxy_pass http://conduit_core_api;\n".into(),
        "            access_log off;\n        }\n    }\n".into(),
        format!("    server {{\n        listen 127.0.0.1:{operators} ssl http2;\n{tls}"),
        format!("        location /api/ {{\n            proxy_pass http://conduit_admin_api;\n{forwarded}        }}\n"),
        "    }\n".into(),
    ]
    .concat()
}

/// A certificate for 127.0.0.1 in two files, and a client that trusts it alone.
pub struct Certificate {
    cert: String,
    key: String,
    /// Speaks HTTP/2 where it can.
    pub client: reqwest::Client,
}

impl Certificate {
    pub fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let root = reqwest::Certificate::from_der(made.cert.der()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
        Certificate { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), client }
    }

    /// As nginx finds them.
    pub fn files(&self) -> [(&str, &str); 2] {
        [("cert.pem", &self.cert), ("key.pem", &self.key)]
    }
}
