//! The fake providers by themselves, for clients in other languages: each argument is a behaviour, and each gets a
//! fake of its own. Prints their base URLs as a JSON object, and stops when its input ends.

use std::collections::BTreeMap;
use std::io::Read as _;

use testkit::{Behaviour, Upstream};

fn behaviour(name: &str) -> Option<Behaviour> {
    Some(match name {
        "ok" => Behaviour::ok(),
        "tool" => Behaviour::ok_tool_call(),
        "filtered" => Behaviour::content_filter_finish(),
        "limited" => Behaviour::error(429, Some("7")),
        "failed" => Behaviour::error(500, None),
        "overflow" => Behaviour::context_overflow(),
        "broken" => Behaviour::error_event_after(3),
        "cut" => Behaviour::cut_late(),
        _ => return None,
    })
}

fn main() -> std::io::Result<()> {
    let mut fakes = BTreeMap::new();
    for name in std::env::args().skip(1) {
        let unknown = || std::io::Error::other(format!("there is no behaviour `{name}`"));
        let fake = Upstream::start();
        fake.set_default(behaviour(&name).ok_or_else(unknown)?);
        fakes.insert(name, fake);
    }
    let urls: BTreeMap<&str, String> =
        fakes.iter().map(|(name, fake)| (name.as_str(), fake.base_url())).collect();
    println!("{}", serde_json::to_string(&urls).unwrap_or_default());
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
