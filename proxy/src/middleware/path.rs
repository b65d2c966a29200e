//! The kinds that change the path: what rules saw is canonical, and so must be what servers see.
//!
//! A path that would come out in another form than its canonical one is refused: a server might take it for a path that no
//! rule let through, as `/files../secret` without `/files`. It must not touch the query.

use super::{Facts, Head, Pass};
use crate::{fault::Fault, http::target};
use http::{HeaderName, HeaderValue, Uri, request::Parts, uri::PathAndQuery};
use sallyport_config::model::middleware::{
    path::{AddPrefix, ReplacePath, ReplacePathRegex, StripPrefix, StripPrefixRegex},
    pattern::Pattern,
};

const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REPLACED: HeaderName = HeaderName::from_static("x-replaced-path");
/// Longest path that may come of a replacement.
const PATH_BYTES_MAX: usize = 16 * 1024;

/// One compiled change of the path.
#[derive(Debug)]
pub(super) enum Change {
    Strip(Vec<String>),
    StripPattern(Vec<Pattern>),
    Add(String),
    Replace(String),
    ReplacePattern(Pattern, String),
}

impl From<&StripPrefix> for Change {
    fn from(settings: &StripPrefix) -> Self {
        Self::Strip(settings.prefixes.clone())
    }
}

impl From<&StripPrefixRegex> for Change {
    fn from(settings: &StripPrefixRegex) -> Self {
        Self::StripPattern(settings.patterns.clone())
    }
}

impl From<&AddPrefix> for Change {
    fn from(settings: &AddPrefix) -> Self {
        Self::Add(settings.prefix.clone())
    }
}

impl From<&ReplacePath> for Change {
    fn from(settings: &ReplacePath) -> Self {
        Self::Replace(settings.path.clone())
    }
}

impl From<&ReplacePathRegex> for Change {
    fn from(settings: &ReplacePathRegex) -> Self {
        Self::ReplacePattern(settings.pattern.clone(), settings.replacement.clone())
    }
}

/// What a change makes of a path.
struct Changed {
    path: String,
    tell: Tell,
}

/// What servers are told of the old path.
enum Tell {
    Nothing,
    /// What was taken off.
    Prefix(HeaderValue),
    /// All of it.
    Replaced(HeaderValue),
}

impl Change {
    /// What becomes of a path; `None` where it stays.
    fn apply(&self, path: &str) -> Result<Option<Changed>, Fault> {
        match self {
            Self::Strip(prefixes) => {
                let found = prefixes.iter().find(|prefix| path.starts_with(prefix.as_str()));
                found.map(|prefix| stripped(path, prefix)).transpose()
            }
            Self::StripPattern(patterns) => {
                let mut found = patterns.iter().filter_map(|pattern| pattern.first_in(path));
                let found = found.find(|found| !found.is_empty());
                found.map(|prefix| stripped(path, prefix)).transpose()
            }
            Self::Add(prefix) => Ok(Some(Changed {
                path: format!("{prefix}{path}"),
                tell: Tell::Nothing,
            })),
            Self::Replace(new) => replaced(path, new.clone()).map(Some),
            Self::ReplacePattern(pattern, by) => {
                let new = pattern.replaced(path, by, PATH_BYTES_MAX);
                let new = new.map_err(|_| Fault::PathAmbiguous)?;
                new.map(|new| replaced(path, new)).transpose()
            }
        }
    }
}

fn stripped(path: &str, prefix: &str) -> Result<Changed, Fault> {
    let rest = path.strip_prefix(prefix).unwrap_or(path);
    let slash = if rest.starts_with('/') { "" } else { "/" };
    Ok(Changed {
        path: format!("{slash}{rest}"),
        tell: Tell::Prefix(value(prefix)?),
    })
}

fn replaced(path: &str, new: String) -> Result<Changed, Fault> {
    Ok(Changed {
        path: new,
        tell: Tell::Replaced(value(path)?),
    })
}

fn value(path: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(path).map_err(|_| Fault::PathAmbiguous)
}

impl Head for Change {
    fn pass(&self, head: &mut Parts, _: &Facts<'_>) -> Result<Pass, Fault> {
        let path = head.uri.path();
        // `OPTIONS *` asks for no path.
        if !path.starts_with('/') {
            return Ok(Pass::On);
        }
        let Some(Changed { path, tell }) = self.apply(path)? else {
            return Ok(Pass::On);
        };
        rewrite(head, path)?;
        match tell {
            Tell::Nothing => {}
            Tell::Prefix(prefix) => drop(head.headers.append(PREFIX, prefix)),
            Tell::Replaced(old) => drop(head.headers.insert(REPLACED, old)),
        }
        Ok(Pass::On)
    }
}

/// Puts another path in the place of a request's, if it is one that stays as it is.
fn rewrite(head: &mut Parts, path: String) -> Result<(), Fault> {
    let whole = match head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.clone(),
    };
    let target = PathAndQuery::try_from(whole).map_err(|_| Fault::PathAmbiguous)?;
    head.uri = Uri::from(target);
    let same = target::of(head).is_ok_and(|target| target.path == path);
    if same { Ok(()) } else { Err(Fault::PathAmbiguous) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::{prop_assert_eq, proptest};

    fn head(target: &str) -> Parts {
        Request::builder()
            .uri(target)
            .body(())
            .expect("a request")
            .into_parts()
            .0
    }

    /// Target and fields that a change leaves of a request.
    fn after(change: &Change, target: &str) -> Result<(String, Vec<(String, String)>), Fault> {
        let facts = Facts {
            client: [192, 0, 2, 7].into(),
            certificates: None,
        };
        let mut head = head(target);
        change.pass(&mut head, &facts)?;
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let fields = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)));
        Ok((head.uri.to_string(), fields.collect()))
    }

    #[track_caller]
    fn check(change: &Change, target: &str, expected: &str, told: Option<(&str, &str)>) {
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = (expected.to_owned(), told.into_iter().collect());
        assert_eq!(after(change, target), Ok(expected), "{target}");
    }

    fn pattern(text: &str) -> Pattern {
        let toml = format!("[middlewares.m.strip_prefix_regex]\nregex = ['{text}']\n");
        let source = sallyport_config::Source {
            name: "t.toml".to_owned(),
            text: toml,
        };
        let config = sallyport_config::parse(&[source]).expect("a configuration");
        match config.middlewares.into_values().next() {
            Some(sallyport_config::model::middleware::Middleware::StripPrefixRegex(mut settings)) => {
                settings.patterns.remove(0)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_prefix_that_fits_is_taken_off_and_told() {
        let change = Change::Strip(vec!["/api/v1".to_owned(), "/api".to_owned(), "/".to_owned()]);
        let told = |prefix| Some(("x-forwarded-prefix", prefix));
        check(&change, "/api/v1/x?y=/api", "/x?y=/api", told("/api/v1"));
        check(&change, "/api/x", "/x", told("/api"));
        check(&change, "/api", "/", told("/api"));
        check(&change, "/apix", "/x", told("/api"));
        check(&change, "/other?", "/other?", told("/"));
        check(&Change::Strip(vec!["/a".to_owned()]), "/b", "/b", None);
    }

    #[test]
    fn a_path_that_would_be_read_in_two_ways_is_refused() {
        let files = Change::Strip(vec!["/files".to_owned()]);
        for target in ["/files../secret", "/files..", "/files."] {
            assert_eq!(after(&files, target), Err(Fault::PathAmbiguous), "{target}");
        }
        check(
            &files,
            "/files.txt",
            "/.txt",
            Some(("x-forwarded-prefix", "/files")),
        );
        let doubled = Change::ReplacePattern(pattern("/"), "//".to_owned());
        assert_eq!(after(&doubled, "/x"), Err(Fault::PathAmbiguous));
        for by in ["..", "%2e", "a?b", "a#b", "%zz"] {
            let change = Change::ReplacePattern(pattern("/x"), format!("/{by}"));
            assert_eq!(after(&change, "/x/y"), Err(Fault::PathAmbiguous), "{by}");
        }
        let relative = Change::ReplacePattern(pattern("/x"), String::new());
        assert_eq!(after(&relative, "/x"), Err(Fault::PathAmbiguous));
    }

    #[test]
    fn what_a_pattern_takes_of_the_beginning_is_taken_off() {
        let change = Change::StripPattern(vec![pattern("/users/[0-9]+"), pattern("/[a-z]*")]);
        check(
            &change,
            "/users/17/x",
            "/x",
            Some(("x-forwarded-prefix", "/users/17")),
        );
        check(
            &change,
            "/9/users/17",
            "/9/users/17",
            Some(("x-forwarded-prefix", "/")),
        );
        check(&Change::StripPattern(vec![pattern("a*")]), "/a", "/a", None);
    }

    #[test]
    fn prefixes_are_added_and_paths_replaced_beside_the_query() {
        check(&Change::Add("/v1".to_owned()), "/a?b", "/v1/a?b", None);
        check(&Change::Add(String::new()), "/a", "/a", None);
        check(
            &Change::Replace("/new".to_owned()),
            "/a/b?c=d",
            "/new?c=d",
            Some(("x-replaced-path", "/a/b")),
        );
        let change = Change::ReplacePattern(pattern("/a/(.*)"), "/b/$1/c".to_owned());
        check(
            &change,
            "/a/x%2Fy?q",
            "/b/x%2Fy/c?q",
            Some(("x-replaced-path", "/a/x%2Fy")),
        );
        check(&change, "/b/x", "/b/x", None);
    }

    proptest! {
        #[test]
        fn whatever_comes_out_is_canonical(
            came in "/[a-c./%2eEfF5]{0,20}",
            prefix in "/[a-c.%2F/]{0,4}",
            by in "[a-c./%2?#]{0,4}",
        ) {
            let parts = head(&came);
            let Ok(before) = target::of(&parts) else { return Ok(()) };
            let before = before.path.into_owned();
            for change in [
                Change::Strip(vec![prefix.clone()]),
                Change::Add(prefix.clone()),
                Change::Replace(prefix.clone()),
                Change::ReplacePattern(pattern("/a*"), by.clone()),
            ] {
                if let Ok((after, _)) = after(&change, &before) {
                    let parts = head(&after);
                    let again = target::of(&parts).expect("a path");
                    prop_assert_eq!(&*again.path, &*after, "{:?}", change);
                }
            }
        }
    }

    #[test]
    fn a_request_for_no_path_stays() {
        let (mut head, ()) = Request::builder()
            .method("OPTIONS")
            .uri("*")
            .body(())
            .expect("a request")
            .into_parts();
        let facts = Facts {
            client: [192, 0, 2, 7].into(),
            certificates: None,
        };
        let passed = Change::Add("/v1".to_owned()).pass(&mut head, &facts);
        assert!(matches!(passed, Ok(Pass::On)) && head.uri == "*");
    }
}
