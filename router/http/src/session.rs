//! Sessions in cookies.

use allerac_ledger::{CreatedKey, SessionAbout};
use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use crate::error::ApiError;
use crate::handlers::now_s;
use crate::origin;
use crate::peer::Peer;
use crate::state::AppState;

/// The cookie's name.
const NAME: &str = "allerac_session";

/// A session just begun, or its end.
pub(crate) struct Cookie(String);

/// What a request has in its cookie. The first of several, as browsers send the most particular one first (RFC 6265, 5.4).
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    cookie_named(headers, NAME)
}

/// The same of another cookie.
pub(crate) fn cookie_named<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Signs somebody in who may; `by` says what let them in.
pub(crate) async fn open(
    state: &AppState,
    user: &str,
    (headers, peer): (&HeaderMap, Peer),
    by: &'static str,
) -> Result<Cookie, ApiError> {
    let agent = headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let about = SessionAbout { agent: agent.unwrap_or_default(), address: peer.0.to_string(), by };
    let (CreatedKey { secret, .. }, ends) = state.ledger.open_session(user, about).await?;
    Ok(cookie(&secret, ends - now_s(), headers))
}

/// Has the browser forget.
pub(crate) fn forget(headers: &HeaderMap) -> Cookie {
    cookie("", 0, headers)
}

fn cookie(value: &str, lasts_s: i64, headers: &HeaderMap) -> Cookie {
    let secure = if origin::is_https(headers) { "; Secure" } else { "" };
    Cookie(format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={lasts_s}{secure}"))
}

impl Cookie {
    /// Sends it along.
    pub(crate) fn set(self, answer: &mut Response) -> Result<(), ApiError> {
        let value = HeaderValue::from_str(&self.0).map_err(|_| ApiError::too_many_requests())?;
        answer.headers_mut().insert(SET_COOKIE, value);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=b; allerac_session=one; allerac_session=two"));
        assert_eq!(presented(&headers), Some("one"));
    }

    #[test]
    fn it_is_for_the_page_alone_and_over_https_never_sent_in_the_clear() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie("x", 9, &headers).0, "allerac_session=x; Path=/; HttpOnly; SameSite=Strict; Max-Age=9");
        headers.insert("origin", HeaderValue::from_static("https://box.example"));
        assert!(cookie("x", 9, &headers).0.ends_with("; Secure"));
    }
}
