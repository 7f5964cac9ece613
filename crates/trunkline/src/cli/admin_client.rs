//! The admin API as the commands call it: where the server is, who asks, pages, and what is said when it does not
//! work. The commands beside this file only name paths, fields and columns.
//!
//! - `admin_client/server.rs`: the flags that say where the server is and who asks.
//! - `admin_client/session.rs`: what a command runs in.
//! - `admin_client/fields.rs`: bodies and values out of flags.
//! - `admin_client/failure.rs`: what people read when it does not work.

mod failure;
mod fields;
mod server;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::{Map, Value};

pub use failure::Failure;
pub use fields::{
    Clear, Pair, amount, body, cleared, moment_ago, moment_ahead, named, pair, parse_json, read_file,
    read_text, setting,
};
pub use server::ServerArgs;
pub use session::{Admin, Run, Session, run, run_with};

/// The most bytes of an answer that is kept as a whole. A page of a thousand rows is far smaller.
const MAX_ANSWER: usize = 64 << 20;
/// The most bytes of an error that are read.
const MAX_ERROR: usize = 64 << 10;
/// The most rows that the server gives at once.
const PAGE: u64 = 1000;
/// How often a creation is sent when nothing is heard of it.
const ATTEMPTS: u32 = 3;
/// For what goes through much data: a check of the whole audit log, an import.
const LONG: Duration = Duration::from_secs(3600);
/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Part of a query: name and value.
pub type Query<'a> = Vec<(&'a str, String)>;

/// Says that a creation is done once, however often it is sent.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Once {
    /// With the same key (any text up to 255 characters) this is done once, however often it is sent. Without,
    /// one is made up, so that what is lost on the way may be sent again.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: HeaderValue,
    timeout: Duration,
}

impl Client {
    /// A client for the server at `base` with this key. `cacert` is PEM: the only authorities that are trusted.
    pub fn new(base: Url, key: &Secret, cacert: Option<&[u8]>, timeout: Duration) -> Result<Self, Failure> {
        let invalid =
            |_| Failure::setup("the admin key holds characters that no key has: check where it is from");
        let mut authorization: HeaderValue = format!("Bearer {}", key.expose()).parse().map_err(invalid)?;
        authorization.set_sensitive(true);
        // Who installed one before us chose a provider as good as ours.
        drop(rustls::crypto::ring::default_provider().install_default());
        // The key goes to this server and to no other: redirects are told, not followed.
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        if let Some(pem) = cacert {
            let roots = reqwest::Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|roots| !roots.is_empty())
                .ok_or_else(|| Failure::setup("--cacert: the file holds no certificate in PEM form"))?;
            http = http.tls_certs_only(roots);
        } else if base.scheme() == "http" {
            // Nothing is verified there, and a bare container has no authorities to load.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| Failure::setup(failure::cause(&error)))?;
        Ok(Client { http, base, authorization, timeout })
    }

    /// Where the server is, for people.
    pub fn place(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Asks for one document.
    pub async fn get(&self, path: &[&str], query: &Query<'_>) -> Result<Value, Failure> {
        self.ask(self.request(Method::GET, path, query)?).await
    }

    /// The same of what takes its time.
    pub async fn get_long(&self, path: &[&str], query: &Query<'_>) -> Result<Value, Failure> {
        self.ask_within(self.request(Method::GET, path, query)?, self.timeout.max(LONG)).await
    }

    /// Does what is not a creation.
    pub async fn post(&self, path: &[&str], query: &Query<'_>, body: &Value) -> Result<Value, Failure> {
        self.ask(self.request(Method::POST, path, query)?.json(body)).await
    }

    /// Changes a part; of `version` only, when it is given.
    pub async fn patch(&self, path: &[&str], body: &Value, version: Option<i64>) -> Result<Value, Failure> {
        let mut request = self.request(Method::PATCH, path, &Query::new())?.json(body);
        if let Some(version) = version {
            request = request.header("if-match", format!("\"{version}\""));
        }
        self.ask(request).await
    }

    /// Removes.
    pub async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.ask(self.request(Method::DELETE, path, &Query::new())?).await.map(drop)
    }

    /// Changes what is there, or makes it with `name` in its body.
    pub async fn set(
        &self,
        kind: &str,
        name: (&str, &str),
        body: Map<String, Value>,
    ) -> Result<Value, Failure> {
        let (field, value) = name;
        match self.patch(&[kind, value], &Value::Object(body.clone()), None).await {
            Err(Failure::Refused { status: 404, .. }) => {
                let mut body = body;
                body.insert(field.to_owned(), value.into());
                self.create(&[kind], &Value::Object(body), &Once::default()).await
            }
            done => done,
        }
    }

    /// Makes something once: what is lost on the way is sent again with the same idempotency key.
    pub async fn create(&self, path: &[&str], body: &Value, once: &Once) -> Result<Value, Failure> {
        let key = match &once.idempotency_key {
            Some(key) => key.clone(),
            None => random_key()?,
        };
        let mut attempt = 1;
        loop {
            let request = self.request(Method::POST, path, &Query::new())?.json(body);
            let failure = match self.ask(request.header("idempotency-key", &key)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure {
                failure if attempt < ATTEMPTS && failure.may_be_lost() => {}
                Failure::Lost { place, why } => return Err(Failure::Unknown { place, why, key }),
                failure => return Err(failure),
            }
            tokio::time::sleep(Duration::from_millis(250) * attempt).await;
            attempt += 1;
        }
    }

    /// Sends a file.
    pub async fn upload(
        &self,
        path: &[&str],
        query: &Query<'_>,
        media: &'static str,
        bytes: Vec<u8>,
    ) -> Result<Value, Failure> {
        let request = self.request(Method::POST, path, query)?.header(CONTENT_TYPE, media).body(bytes);
        self.ask_within(request, self.timeout.max(LONG)).await
    }

    /// Begins a download, which may take as long as it flows.
    pub async fn download(&self, path: &[&str], query: &Query<'_>) -> Result<Download<'_>, Failure> {
        let request = self.request(Method::GET, path, query)?;
        // The head comes within the time for an answer, and each piece does.
        let answer = tokio::time::timeout(self.timeout, request.send()).await;
        let answer = answer.map_err(|_| self.too_slow())?.map_err(|error| self.lost(&error))?;
        Ok(Download { client: self, answer: self.accepted(answer).await? })
    }

    /// The rows of a list, page by page; at most `limit`, or all.
    pub fn pages<'c>(&'c self, path: &[&'c str], query: Query<'c>, limit: Option<u64>) -> Pages<'c> {
        Pages { client: self, path: path.to_vec(), query, left: limit, after: None, ended: false }
    }

    fn url(&self, path: &[&str], query: &Query<'_>) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        {
            let no_base = |()| Failure::setup("the URL of the server cannot have a path");
            let mut segments = url.path_segments_mut().map_err(no_base)?;
            segments.pop_if_empty().push("api");
            for part in path {
                // A URL swallows these, and would mean something else without them.
                if matches!(*part, "" | "." | "..") {
                    return Err(Failure::setup(format!("`{part}` is no name")));
                }
                segments.push(part);
            }
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn request(&self, method: Method, path: &[&str], query: &Query<'_>) -> Result<RequestBuilder, Failure> {
        let url = self.url(path, query)?;
        Ok(self.http.request(method, url).header(AUTHORIZATION, self.authorization.clone()))
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Value, Failure> {
        self.ask_within(request, self.timeout).await
    }

    async fn ask_within(&self, request: RequestBuilder, timeout: Duration) -> Result<Value, Failure> {
        let answer = request.timeout(timeout).send().await.map_err(|error| self.lost(&error))?;
        let answer = self.accepted(answer).await?;
        let status = answer.status().as_u16();
        let bytes = self.read(answer, MAX_ANSWER).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|_| Failure::Strange { place: self.place().to_owned(), status })
    }

    /// The answer when it is a success, else what it says.
    async fn accepted(&self, answer: Response) -> Result<Response, Failure> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let place = self.place().to_owned();
        if status.is_redirection() {
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            return Err(Failure::Moved { place, to: to.to_owned() });
        }
        let bytes = self.read(answer, MAX_ERROR).await?;
        Err(Failure::of_answer(place, status.as_u16(), &bytes))
    }

    async fn read(&self, mut answer: Response, max: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.lost(&error))? {
            if bytes.len() + piece.len() > max {
                return Err(Failure::TooLarge { place: self.place().to_owned(), max });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn lost(&self, error: &reqwest::Error) -> Failure {
        let place = self.place().to_owned();
        match error {
            error if error.is_connect() => Failure::Unreachable { place, why: failure::cause(error) },
            error if error.is_timeout() => self.too_slow(),
            error => Failure::Lost { place, why: failure::cause(error) },
        }
    }

    fn too_slow(&self) -> Failure {
        let why = format!("no answer within {}", base::Duration(self.timeout));
        Failure::Lost { place: self.place().to_owned(), why }
    }
}

/// A body as it arrives.
pub struct Download<'c> {
    client: &'c Client,
    answer: Response,
}

impl Download<'_> {
    /// The next piece; `None` at the end.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let client = self.client;
        let piece = tokio::time::timeout(client.timeout, self.answer.chunk()).await;
        let piece = piece.map_err(|_| client.too_slow())?.map_err(|error| client.lost(&error))?;
        Ok(piece.map(|piece| piece.to_vec()))
    }
}

/// The pages of a list.
pub struct Pages<'c> {
    client: &'c Client,
    path: Vec<&'c str>,
    query: Query<'c>,
    left: Option<u64>,
    after: Option<Value>,
    ended: bool,
}

impl Pages<'_> {
    /// The rows of the next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        if self.ended || self.left == Some(0) {
            return Ok(None);
        }
        let size = self.left.map_or(PAGE, |left| left.min(PAGE));
        let mut query = self.query.clone();
        query.push(("limit", size.to_string()));
        if let Some(after) = &self.after {
            query.push(("after", fields::plain(after)));
        }
        let mut page = self.client.get(&self.path, &query).await?;
        let strange = || Failure::Strange { place: self.client.place().to_owned(), status: 200 };
        let Some(Value::Array(rows)) = page.get_mut("data").map(Value::take) else { return Err(strange()) };
        let next = page.get_mut("next").map(Value::take).filter(|next| !next.is_null());
        // A server that leads nowhere new would be asked for ever.
        if next.is_some() && (next == self.after || rows.is_empty()) {
            return Err(strange());
        }
        self.left = self.left.map(|left| left.saturating_sub(rows.len() as u64));
        self.ended = next.is_none();
        self.after = next;
        Ok(Some(rows))
    }

    /// What `next` of the last page was: where rows that were not asked for begin.
    pub fn rest(&self) -> Option<&Value> {
        self.after.as_ref()
    }
}

/// The id of what is given by id or by name.
pub async fn id_of(client: &Client, kind: &str, given: &str) -> Result<String, Failure> {
    if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(given.to_owned());
    }
    let mut pages = client.pages(&[kind], vec![("name", given.to_owned())], None);
    while let Some(rows) = pages.next().await? {
        let found = rows.iter().find(|row| row.get("name").and_then(Value::as_str) == Some(given));
        if let Some(id) = found.and_then(|row| row.get("id")) {
            return Ok(fields::plain(id));
        }
    }
    let one = kind.trim_end_matches('s');
    Err(Failure::Said(format!("there is no {one} named `{given}`: `trunkline {kind} list` shows them all")))
}

fn random_key() -> Result<String, Failure> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|error| Failure::setup(format!("no random numbers: {error}")))?;
    Ok(format!("cli-{}", hex::encode(random)))
}

/// Whether the server is on this machine: no proxy stands between.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let ip: Result<std::net::IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    })
}
