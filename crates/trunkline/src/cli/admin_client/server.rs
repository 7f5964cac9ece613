//! Where the server is, and who asks.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base::{Duration, Secret};
use reqwest::Url;
use trunkline::settings::Env;

use super::{Client, Failure};

/// Where a server is that nobody said anything about.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The most bytes of a file with a key or certificates.
const MAX_FILE: u64 = 1 << 20;

/// Where the server is, who asks, and how the answer is printed.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The server")]
pub struct ServerArgs {
    /// Where it is. Default: `TRUNKLINE_URL`, else `http://127.0.0.1:8080`.
    #[arg(long, global = true, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,
    /// A file with the admin key. Default: `TRUNKLINE_ADMIN_KEY`, or the file of `TRUNKLINE_ADMIN_KEY_FILE`.
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A PEM file with the authorities to trust, in the place of the system's.
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// How long to wait for an answer.
    #[arg(long, global = true, value_name = "DURATION", default_value = "1m", value_parser = Duration::parse)]
    timeout: Duration,
    /// Print what the API answers, one JSON document.
    #[arg(long, global = true)]
    pub json: bool,
}

impl ServerArgs {
    /// A client for it.
    pub fn client(&self, env: &Env) -> Result<Client, Failure> {
        let key = self.key(env)?;
        let cacert = match &self.cacert {
            Some(file) => Some(read(file, "--cacert")?),
            None => None,
        };
        Client::new(self.place(env)?, &key, cacert.as_deref(), self.timeout.0)
    }

    fn place(&self, env: &Env) -> Result<Url, Failure> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let found = env.get("TRUNKLINE_URL").map_err(Failure::Setup)?;
        let (name, text) =
            found.map_or(("", DEFAULT_URL.to_owned()), |found| ("TRUNKLINE_URL: ", found.value));
        parse_url(&text).map_err(|why| Failure::Setup(format!("{name}{why}")))
    }

    fn key(&self, env: &Env) -> Result<Secret, Failure> {
        let key = match &self.key_file {
            Some(file) => {
                let text = String::from_utf8(read(file, "--key-file")?);
                let text = text.map_err(|_| Failure::setup("--key-file: the file is not UTF-8"))?;
                Some(text.trim().to_owned())
            }
            None => env.get("TRUNKLINE_ADMIN_KEY").map_err(Failure::Setup)?.map(|found| found.value),
        };
        let missing = || {
            Failure::setup(
                "there is no admin key: set TRUNKLINE_ADMIN_KEY or TRUNKLINE_ADMIN_KEY_FILE, or name a file with \
                 --key-file",
            )
        };
        key.filter(|key| !key.is_empty()).map(Secret::from).ok_or_else(missing)
    }
}

fn read(file: &Path, flag: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 <= MAX_FILE => Ok(bytes),
        Ok(_) => Err(Failure::Setup(format!("{flag}: `{}` is larger than 1 MiB", file.display()))),
        Err(error) => Err(Failure::Setup(format!("{flag}: `{}` cannot be read: {error}", file.display()))),
    }
}

/// Reads `http://host:port`, with a path when the server is below one. Says nothing of what may be a password.
fn parse_url(text: &str) -> Result<Url, String> {
    let url: Url =
        text.parse().map_err(|_| "expected a URL as `https://trunkline.example.com`".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("expected a URL that begins with http:// or https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without a user: the key comes from TRUNKLINE_ADMIN_KEY".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without `?` and `#`".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArgs,
    }

    fn args(line: &[&str]) -> ServerArgs {
        Line::try_parse_from([&["x"], line].concat()).unwrap().server
    }

    #[test]
    fn the_place_is_that_of_the_flag_the_environment_or_here() {
        let env = Env::from_iter([("TRUNKLINE_URL", "https://a.example/base")]);
        assert_eq!(args(&[]).place(&Env::default()).unwrap().as_str(), "http://127.0.0.1:8080/");
        assert_eq!(args(&[]).place(&env).unwrap().as_str(), "https://a.example/base");
        assert_eq!(args(&["--url", "http://b:1"]).place(&env).unwrap().as_str(), "http://b:1/");
        let bad = Env::from_iter([("TRUNKLINE_URL", "b:1")]);
        assert!(args(&[]).place(&bad).unwrap_err().to_string().starts_with("TRUNKLINE_URL: expected"));
    }

    #[test]
    fn refuses_what_is_no_place_without_repeating_it() {
        for bad in ["", "b", "ftp://b", "http://me:s3cret@b", "http://b/?key=s3cret", "http://b/#s3cret"] {
            let error = Line::try_parse_from(["x", "--url", bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(!parse_url(bad).unwrap_err().contains("s3cret"), "{bad}");
        }
    }

    #[test]
    fn the_key_is_in_a_file_or_the_environment_and_never_a_flag() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "tl-admin-in-file\n").unwrap();
        let flag = args(&["--key-file", file.to_str().unwrap()]);
        let env = Env::from_iter([("TRUNKLINE_ADMIN_KEY", "tl-admin-in-env")]);
        assert_eq!(flag.key(&env).unwrap().expose(), "tl-admin-in-file");
        assert_eq!(args(&[]).key(&env).unwrap().expose(), "tl-admin-in-env");
        let twin = Env::from_iter([("TRUNKLINE_ADMIN_KEY_FILE", file.to_str().unwrap())]);
        assert_eq!(args(&[]).key(&twin).unwrap().expose(), "tl-admin-in-file");
        let none = args(&[]).key(&Env::default()).unwrap_err().to_string();
        assert!(none.contains("TRUNKLINE_ADMIN_KEY") && none.contains("--key-file"), "{none}");
        assert!(Line::try_parse_from(["x", "--key", "tl-admin-1"]).is_err());
    }
}
