//! The refresh token: 256 random bits in a cookie that scripts cannot read, known to the store by its hash alone.

use crate::problem::Problem;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, time::Duration};

const COOKIE: &str = "jarvis_refresh";
const PATH: &str = "/api/v1/auth";

/// 256 random bits as text.
pub(crate) fn random_token() -> Result<String, Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::internal("the system gives no random bytes", &error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What the store knows of a random token: its SHA-256 in hexadecimal. Slow hashing is for what people choose; 256 random
/// bits cannot be guessed.
pub(crate) fn hash(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The token in a request's cookies.
pub(super) fn from_cookies(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE && !value.is_empty()).then_some(value))
}

/// The cookie that carries `token`, or takes it back when there is none.
pub(super) fn cookie(token: Option<&str>, lifetime: Duration, secure: bool) -> Option<HeaderValue> {
    let (value, seconds) = token.map_or(("", 0), |token| (token, lifetime.as_secs()));
    let secure = if secure { "; Secure" } else { "" };
    let text = format!(
        "{COOKIE}={value}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    HeaderValue::from_str(&text).ok()
}
