//! `/docs`: the document as one page for people. Nothing is fetched from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::sample::sample;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
h1{margin-bottom:0}h2{border-bottom:1px solid var(--line);margin-top:2.5rem;text-transform:capitalize}\
nav a{margin-right:.8rem;text-transform:capitalize}\
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}summary code{font-weight:600}\
.method{display:inline-block;min-width:4rem;font:600 13px ui-monospace,monospace}\
pre,code{font:13px/1.45 ui-monospace,monospace}pre{background:var(--soft);padding:.6rem;overflow-x:auto;border-radius:.3rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;border-top:1px solid var(--line);padding:.25rem .6rem .25rem 0}\
.soft{opacity:.7}";

/// The page.
pub(crate) fn page(document: &Value) -> String {
    let mut html = String::with_capacity(256 << 10);
    let title = text(&document["info"]["title"]);
    html += "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">";
    add(&mut html, format_args!("<title>{title}</title><style>{STYLE}</style></head><body>"));
    let version = text(&document["info"]["version"]);
    add(
        &mut html,
        format_args!(
            "<h1>{title}</h1><p class=\"soft\">{version} · <a href=\"openapi.json\">openapi.json</a></p>"
        ),
    );
    add(&mut html, format_args!("<p>{}</p><nav>", prose(&document["info"]["description"])));
    let tags: Vec<_> = list(&document["tags"]).iter().filter_map(|tag| tag["name"].as_str()).collect();
    for tag in &tags {
        add(&mut html, format_args!("<a href=\"#{0}\">{0}</a>", escape(tag)));
    }
    html += "<a href=\"#schemas\">schemas</a></nav>";
    for tag in &tags {
        add(&mut html, format_args!("<h2 id=\"{0}\">{0}</h2>", escape(tag)));
        for (path, method, operation) in operations(document) {
            if list(&operation["tags"]).iter().any(|named| named == tag) {
                section(&mut html, document, path, method, operation);
            }
        }
    }
    html += "<h2 id=\"schemas\">schemas</h2>";
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        add(
            &mut html,
            format_args!("<details id=\"schema-{0}\"><summary><code>{0}</code></summary>", escape(name)),
        );
        described(&mut html, schema);
        html += "</details>";
    }
    html += "</body></html>";
    html
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn section(html: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let (shown_path, summary) = (escape(path), prose(&operation["summary"]));
    let shown_method = escape(&method.to_uppercase());
    add(
        html,
        format_args!(
            "<details><summary><span class=\"method\">{shown_method}</span> <code>{shown_path}</code> {summary}</summary>"
        ),
    );
    if operation["description"].is_string() {
        add(html, format_args!("<p class=\"soft\">{}</p>", prose(&operation["description"])));
    }
    if !list(&operation["parameters"]).is_empty() {
        *html += "<h4>Parameters</h4><table>";
        for parameter in list(&operation["parameters"]) {
            let mark = if parameter["required"] == true { ", required" } else { "" };
            add(
                html,
                format_args!(
                    "<tr><td><code>{}</code></td><td class=\"soft\">{}{mark}</td><td>{} {}</td></tr>",
                    text(&parameter["name"]),
                    text(&parameter["in"]),
                    kind(&parameter["schema"]),
                    prose(&parameter["description"]),
                ),
            );
        }
        *html += "</table>";
    }
    let body = operation["requestBody"]["content"].as_object();
    if let Some((media, content)) = body.and_then(|content| content.iter().next()) {
        let media: &str = media;
        add(html, format_args!("<h4>Body <span class=\"soft\">{}</span></h4>", escape(media)));
        add(html, format_args!("<p>{}</p>", kind(&content["schema"])));
    }
    *html += "<h4>Answers</h4><table>";
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let response = resolve(document, response);
        let content = response["content"].as_object().and_then(|content| content.values().next());
        let shape = content.map(|content| kind(&content["schema"])).unwrap_or_default();
        let (status, says) = (escape(status), prose(&response["description"]));
        add(html, format_args!("<tr><td><code>{status}</code></td><td>{says}</td><td>{shape}</td></tr>"));
    }
    add(
        html,
        format_args!("</table><pre>{}</pre></details>", escape(&curl(document, path, method, operation))),
    );
}

/// A line to paste into a shell.
fn curl(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let mut line = String::from("curl");
    if method != "get" {
        add(&mut line, format_args!(" -X {}", method.to_uppercase()));
    }
    add(&mut line, format_args!(" \"$TRUNKLINE_URL{path}\""));
    if operation["security"].is_null() {
        line += " \\\n  -H \"Authorization: Bearer $TRUNKLINE_ADMIN_KEY\"";
    }
    let body = operation["requestBody"]["content"].as_object();
    if let Some((media, content)) = body.and_then(|content| content.iter().next()) {
        add(&mut line, format_args!(" \\\n  -H 'Content-Type: {media}' \\\n  "));
        match media.as_str() {
            "application/json" => {
                let sample = sample(&content["schema"], document).to_string().replace('\'', "'\\''");
                add(&mut line, format_args!("-d '{sample}'"));
            }
            _ => line += "--data-binary @FILE",
        }
    }
    line
}

/// A schema's properties as a table, or what it is when it has none.
fn described(html: &mut String, schema: &Value) {
    add(html, format_args!("<p>{}</p>", prose(&schema["description"])));
    let Some(properties) = schema["properties"].as_object() else {
        add(html, format_args!("<p>{}</p>", kind(schema)));
        return;
    };
    *html += "<table>";
    for (name, property) in properties {
        let required = list(&schema["required"]).iter().any(|required| required == name);
        let mark = if required { " <span class=\"soft\">required</span>" } else { "" };
        let (name, says) = (escape(name), prose(&property["description"]));
        add(
            html,
            format_args!(
                "<tr><td><code>{name}</code>{mark}</td><td>{}</td><td>{says}</td></tr>",
                kind(property)
            ),
        );
    }
    *html += "</table>";
}

/// What a schema is, in a few words, with links to the schemas it names.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escape(name));
    }
    for choice in ["oneOf", "anyOf"] {
        let choices = list(&schema[choice]);
        if !choices.is_empty() {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" | ");
        }
    }
    if !schema["const"].is_null() {
        return format!("<code>{}</code>", escape(&schema["const"].to_string()));
    }
    if !list(&schema["enum"]).is_empty() {
        let values =
            list(&schema["enum"]).iter().map(|value| format!("<code>{}</code>", escape(&value.to_string())));
        return values.collect::<Vec<_>>().join(" | ");
    }
    let mut words = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        one => one.as_str().unwrap_or("any").to_owned(),
    };
    if schema["items"].is_object() {
        words = format!("{words} of {}", kind(&schema["items"]));
    } else if schema["properties"]["data"]["items"].is_object() {
        words = format!("page of {}", kind(&schema["properties"]["data"]["items"]));
    }
    for (key, says) in
        [("format", ""), ("minimum", "from "), ("maximum", "to "), ("maxLength", "at most "), ("pattern", "")]
    {
        if !schema[key].is_null() {
            let value = schema[key].as_str().map_or_else(|| schema[key].to_string(), str::to_owned);
            add(&mut words, format_args!(" <span class=\"soft\">{says}{}</span>", escape(&value)));
        }
    }
    words
}

/// What a reference leads to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|r| document.pointer(r.trim_start_matches('#')));
    target.unwrap_or(value)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// A sentence; what stands between backticks is code.
fn prose(value: &Value) -> String {
    let escaped = text(value);
    let mut html = String::with_capacity(escaped.len() + 16);
    for (at, part) in escaped.split('`').enumerate() {
        match at % 2 {
            0 => html += part,
            _ => add(&mut html, format_args!("<code>{part}</code>")),
        }
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing into a `String` never fails.
fn add(html: &mut String, text: std::fmt::Arguments<'_>) {
    let written = html.write_fmt(text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_operation_and_fetches_nothing() {
        let table = crate::routes::admin::table();
        let document = super::super::openapi::document(table, "1.2.3");
        let html = page(&document);
        for route in table.routes() {
            let summary = prose(&route.summary.into());
            assert!(html.contains(&summary), "{}", route.id);
        }
        assert!(!html.contains("http://") && !html.contains("<script"));
        assert_eq!(html.matches("<details").count(), html.matches("</details>").count());
    }

    #[test]
    fn what_a_document_says_is_text() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(prose(&"a `b<c` d".into()), "a <code>b&lt;c</code> d");
    }
}
