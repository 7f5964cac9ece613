//! docs/providers.md tells every kind of provider.

use llm::Kind;

use super::text;

#[test]
fn every_kind_of_provider_is_in_the_documentation() {
    let page = text("docs/providers.md");
    let rows = Kind::all().map(|kind| {
        let env: Vec<String> = kind.env().iter().map(|name| format!("`{name}`")).collect();
        let address = match (kind.base_url(), kind.needs_base_url()) {
            (Some(url), _) => url,
            (None, true) => "`base_url`",
            (None, false) => "built in",
        };
        format!("| `{}` | {address} | {} |\n", kind.as_str(), env.join(", "))
    });
    let rows: String = rows.collect();
    assert!(page.contains(&rows), "the table of docs/providers.md should be:\n{rows}");
}
