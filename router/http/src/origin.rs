//! Whose page sends a request. A browser sends cookies along whoever asks for it, and says in `Origin` who did.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method};

use crate::error::ApiError;

/// Another site's page, open in a browser on this network, must not claim the box nor sign anybody in. Programs that are
/// no browsers do not say who they are.
pub(crate) fn check_open(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(ORIGIN) && !is_own(headers) { Err(foreign()) } else { Ok(()) }
}

/// What changes something for whoever is signed in comes from the page of the box itself, which always says so.
pub(crate) fn check_signed_in(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    // Browsers leave `Origin` away where they ask for something of the same page; then they say this.
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    match site {
        Some("cross-site" | "same-site") => Err(foreign()),
        _ if reads => check_open(headers),
        _ if is_own(headers) => Ok(()),
        _ => Err(foreign()),
    }
}

/// Whether the page was loaded over HTTPS, as the browser saw it: a proxy may stand between.
pub(crate) fn is_https(headers: &HeaderMap) -> bool {
    origin(headers).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

/// How the box is reached, as the browser saw it; by its name where a program does not say.
pub(crate) fn address(headers: &HeaderMap, name: &str) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(name);
    format!("{}://{host}", if is_https(headers) { "https" } else { "http" })
}

fn is_own(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    matches!((origin(headers), host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

fn origin(headers: &HeaderMap) -> Option<(&str, &str)> {
    headers.get(ORIGIN)?.to_str().ok()?.split_once("://")
}

fn foreign() -> ApiError {
    ApiError::forbidden("foreign_origin", "this can only be done from the box's own page; programs use a key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_box_changes_something_for_who_is_signed_in() {
        let (host, own) = (("host", "allerac.local:8080"), ("origin", "http://allerac.local:8080"));
        for (pairs, reads, changes) in [
            (vec![host, own], true, true),
            (vec![host], true, false),
            (vec![host, ("origin", "https://allerac.local:8080")], true, true),
            (vec![host, ("origin", "http://evil.example")], false, false),
            (vec![host, ("origin", "http://allerac.local")], false, false),
            (vec![host, ("origin", "null")], false, false),
            (vec![own], false, false),
            (vec![host, own, ("sec-fetch-site", "cross-site")], false, false),
            (vec![host, own, ("sec-fetch-site", "same-origin")], true, true),
        ] {
            let headers = headers(&pairs);
            let may = |method| check_signed_in(&method, &headers).is_ok();
            assert_eq!(
                (may(Method::GET), may(Method::POST), may(Method::DELETE)),
                (reads, changes, changes),
                "{pairs:?}"
            );
        }
        assert!(
            check_open(&headers(&[host])).is_ok() && check_open(&headers(&[host, ("origin", "http://x")])).is_err()
        );
    }
}
