//! All routes, and finding the one of a path.
//!
//! The router of axum cannot tell a path's pattern before it has routed, nor take a path in any case, as
//! Conduit's clients send it; and every request's pattern is needed for the account whether it is let in or
//! not. So routes are found here, by segments.

use http::Method;

use super::refusal::Form;
use super::route::Route;

/// The name under which paths below `/api` that nobody knows are counted.
const UNKNOWN: &str = "/api/*";

/// Every operation there is.
pub(crate) struct Table {
    places: Vec<Place>,
}

/// One path with its operations.
pub(crate) struct Place {
    pub(crate) pattern: &'static str,
    pub(crate) form: Form,
    segments: Vec<Segment>,
    pub(crate) routes: Vec<Route>,
    /// The methods, for the `Allow` header.
    pub(crate) allow: String,
}

/// A part of a pattern. In this order they are tried: what is fixed wins over what is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Fixed(&'static str),
    Free(&'static str),
    /// The whole rest, slashes included.
    Rest(&'static str),
}

/// A path that was found, with the values of its free parts as they are written.
pub(crate) struct Found<'t, 'p> {
    pub(crate) place: &'t Place,
    pub(crate) values: Vec<(&'static str, &'p str)>,
}

impl Table {
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        let mut places: Vec<Place> = Vec::new();
        for route in routes {
            match places.iter_mut().find(|place| place.pattern == route.path) {
                Some(place) => place.routes.push(route),
                None => places.push(Place {
                    pattern: route.path,
                    form: route.form,
                    segments: segments(route.path),
                    routes: vec![route],
                    allow: String::new(),
                }),
            }
        }
        places.sort_by(|a, b| a.segments.cmp(&b.segments));
        for place in &mut places {
            let mut methods: Vec<_> = place.routes.iter().map(|route| route.method.as_str()).collect();
            if methods.contains(&"GET") {
                methods.push("HEAD");
            }
            methods.sort_unstable();
            place.allow = methods.join(", ");
        }
        Table { places }
    }

    /// All paths, in order.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// All operations.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.places.iter().flat_map(|place| &place.routes)
    }

    /// Finds what a path leads to: letter for letter, else as Conduit's clients write theirs.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<Found<'_, 'p>> {
        let exact = |place: &&Place| place.form == Form::Native;
        self.first(path, exact).or_else(|| {
            let path = path.strip_suffix('/').unwrap_or(path);
            self.first(path, |place| place.form == Form::Conduit)
        })
    }

    fn first<'p>(&self, path: &'p str, of: impl Fn(&&Place) -> bool) -> Option<Found<'_, 'p>> {
        self.places.iter().filter(of).find_map(|place| {
            let values = place.values(path)?;
            Some(Found { place, values })
        })
    }

    /// The pattern a path below `/api` belongs to: one of few, whatever callers invent.
    pub(crate) fn pattern(&self, path: &str) -> &'static str {
        self.find(path).map_or(UNKNOWN, |found| found.place.pattern)
    }

    /// Whose spelling a path is in.
    pub(crate) fn form(&self, path: &str) -> Form {
        self.find(path).map_or(Form::Native, |found| found.place.form)
    }
}

impl Place {
    /// The operation of a method; `HEAD` is `GET` without its body.
    pub(crate) fn route(&self, method: &Method) -> Option<&Route> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.routes.iter().find(|route| route.method == method)
    }

    fn values<'p>(&self, path: &'p str) -> Option<Vec<(&'static str, &'p str)>> {
        let mut values = Vec::new();
        let mut rest = path.strip_prefix('/')?;
        let last = self.segments.len().checked_sub(1)?;
        for (at, segment) in self.segments.iter().enumerate() {
            if let Segment::Rest(name) = segment {
                values.push((*name, rest));
                return (!rest.is_empty()).then_some(values);
            }
            let (part, after) = match rest.split_once('/') {
                Some((part, after)) if at < last => (part, after),
                None if at == last => (rest, ""),
                _ => return None,
            };
            match segment {
                Segment::Fixed(fixed) if part == *fixed => {}
                Segment::Fixed(fixed) if self.form == Form::Conduit && part.eq_ignore_ascii_case(fixed) => {}
                Segment::Free(name) if !part.is_empty() => values.push((*name, part)),
                _ => return None,
            }
            rest = after;
        }
        Some(values)
    }
}

fn segments(pattern: &'static str) -> Vec<Segment> {
    let parts = pattern.strip_prefix('/').unwrap_or(pattern).split('/');
    let segment = |part: &'static str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        None => Segment::Fixed(part),
        Some(name) => name.strip_prefix('*').map_or(Segment::Free(name), Segment::Rest),
    };
    parts.map(segment).collect()
}

#[cfg(test)]
mod tests {
    use super::super::answer::Answer as _;
    use super::super::{Call, Done, Nothing, Refusal};
    use super::*;

    async fn nothing(_: Call<Nothing, Nothing, Nothing>) -> Result<Done, Refusal> {
        Done.finish().map(|_| Done)
    }

    fn table() -> Table {
        let native = |method, path| Route::new(method, path, "things.do", "Does it.", nothing);
        let conduit = |method, path| Route::conduit(method, path, "things.do.conduit", "Does it.", nothing);
        Table::new(vec![
            native(Method::GET, "/api/prices/{*pattern}"),
            native(Method::GET, "/api/groups/{id}"),
            native(Method::PATCH, "/api/groups/{id}"),
            native(Method::POST, "/api/prices/import"),
            native(Method::GET, "/api/groups/{id}/keys"),
            conduit(Method::GET, "/api/VirtualKeys/{id}"),
            conduit(Method::GET, "/api/VirtualKeys/maintenance"),
        ])
    }

    #[test]
    fn paths_are_found_by_their_segments() {
        let table = table();
        let found = |path| {
            let found = table.find(path)?;
            Some((found.place.pattern, found.values))
        };
        assert_eq!(found("/api/groups/7"), Some(("/api/groups/{id}", vec![("id", "7")])));
        assert_eq!(found("/api/groups/7/keys"), Some(("/api/groups/{id}/keys", vec![("id", "7")])));
        assert_eq!(found("/api/prices/import"), Some(("/api/prices/import", vec![])));
        assert_eq!(
            found("/api/prices/a/b%2F"),
            Some(("/api/prices/{*pattern}", vec![("pattern", "a/b%2F")]))
        );
        for unknown in [
            "/api",
            "/api/",
            "/api/groups",
            "/api/groups/",
            "/api/groups/7/",
            "/api/Groups/7",
            "/api/prices/",
            "api/groups/7",
        ] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
        assert_eq!(table.pattern("/api/invented"), "/api/*");
    }

    #[test]
    fn conduits_paths_are_found_in_any_case() {
        let table = table();
        for path in ["/api/VirtualKeys/7", "/API/virtualkeys/7", "/api/VIRTUALKEYS/7/"] {
            assert_eq!(table.pattern(path), "/api/VirtualKeys/{id}", "{path}");
            assert_eq!(table.form(path), Form::Conduit);
        }
        assert_eq!(table.pattern("/api/virtualkeys/Maintenance"), "/api/VirtualKeys/maintenance");
    }

    #[test]
    fn a_path_knows_its_methods() {
        let table = table();
        let place = table.find("/api/groups/7").unwrap().place;
        assert_eq!(place.allow, "GET, HEAD, PATCH");
        assert_eq!(place.route(&Method::HEAD).unwrap().method, Method::GET);
        assert!(place.route(&Method::DELETE).is_none());
    }
}
