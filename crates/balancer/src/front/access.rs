//! Who may do what: administrators by their key, trusted callers by the installation's internal secret.

use super::{Front, refusal::Refusal};
use crate::Caller;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
};

/// A secret cannot be compared with what a header can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be of visible ASCII characters, without spaces")]
pub struct ParseSecretError;

/// The secrets of one listener.
#[derive(Clone, Default)]
pub struct Access {
    admin_key: Option<String>,
    internal_secret: Option<String>,
    /// Whether administrators need no key.
    trusted: bool,
    /// Keyed anew in every process: users are told apart, not known.
    users: RandomState,
}

impl Access {
    /// `admin_key`: what `Authorization: Bearer` carries; without one, nobody may change anything unless `trusted`.
    /// `internal_secret`: what `X-Jarvis-Internal` carries; without one, nobody's word about a user or a priority counts.
    ///
    /// # Errors
    /// A secret that no header can carry.
    pub fn new(
        admin_key: Option<&str>,
        internal_secret: Option<&str>,
        trusted: bool,
    ) -> Result<Self, ParseSecretError> {
        let usable = |secret: &str| secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !admin_key.is_none_or(usable) || !internal_secret.is_none_or(usable) {
            return Err(ParseSecretError);
        }
        Ok(Self {
            admin_key: admin_key.map(str::to_owned),
            internal_secret: internal_secret.map(str::to_owned),
            trusted,
            users: RandomState::new(),
        })
    }

    fn is_administrator(&self, headers: &HeaderMap) -> bool {
        if self.admin_key.is_some() {
            self.is_key(headers)
        } else {
            self.trusted
        }
    }

    /// Whether the administrators' key is among the headers.
    pub(super) fn is_key(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.admin_key else {
            return false;
        };
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok());
        given
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|given| same(given, key))
    }

    /// # Errors
    /// It is no administrator's request.
    pub(super) fn administrates(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.is_administrator(headers) {
            return Ok(());
        }
        let message = if self.admin_key.is_some() {
            "this needs the administrator's key (Authorization: Bearer …)"
        } else {
            "this is for administrators, and balancer.admin_key is not set"
        };
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }

    /// Whose request it is: as a trusted caller says, else by the address that it came from.
    pub(super) fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> Caller {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let proves = |secret: &String| text(INTERNAL).is_some_and(|given| same(given, secret));
        let trusted = self.internal_secret.as_ref().is_some_and(proves);
        let trusting = |name| trusted.then(|| text(name)).flatten();
        let priority = trusting(PRIORITY).and_then(|name| name.parse().ok());
        let user = trusting(USER).map(|user| self.users.hash_one(user));
        Caller {
            user: user.unwrap_or_else(|| self.users.hash_one(peer.to_canonical())),
            priority: priority.unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// What a trusted caller proves itself with.
pub(super) const INTERNAL: &str = "x-jarvis-internal";
pub(super) const USER: &str = "x-jarvis-user";
pub(super) const PRIORITY: &str = "x-jarvis-priority";

/// Compares in a time that depends on the lengths alone.
fn same(given: &str, secret: &str) -> bool {
    let differing = given
        .bytes()
        .zip(secret.bytes())
        .fold(0, |all, (one, other)| all | (one ^ other));
    given.len() == secret.len() && differing == 0
}

/// Lets only administrators through.
pub(super) async fn administrators(
    State(front): State<Front>,
    request: Request,
    next: Next,
) -> Response {
    match front.access.administrates(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.of(request.uri().path()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Priority;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_users_name_counts_only_with_the_internal_secret() {
        let access = Access::new(None, Some("internal-secret-0"), false).unwrap();
        let peer = IpAddr::from([192, 0, 2, 7]);
        let said = |pairs| access.caller(&headers(pairs), peer);
        let by_address = said(&[]).user;
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(access.caller(&headers(&[]), mapped).user, by_address);
        let forged = said(&[(USER, "ada"), (PRIORITY, "high")]);
        assert_eq!(forged.user, by_address);
        assert_eq!(forged.priority, Priority::Normal);
        let wrong = said(&[
            (INTERNAL, "internal-secret-1"),
            (USER, "ada"),
            (PRIORITY, "high"),
        ]);
        assert_eq!((wrong.user, wrong.priority), (by_address, Priority::Normal));
        let right = said(&[
            (INTERNAL, "internal-secret-0"),
            (USER, "ada"),
            (PRIORITY, "high"),
        ]);
        assert_eq!(right.priority, Priority::High);
        assert_ne!(right.user, by_address);
        let nobody = Access::new(None, None, false).unwrap();
        let given = headers(&[(INTERNAL, ""), (USER, "ada"), (PRIORITY, "high")]);
        let unproven = nobody.caller(&given, peer);
        assert_eq!(unproven.priority, Priority::Normal);
    }

    #[test]
    fn administrators_are_known_by_their_key() {
        let access = Access::new(Some("the-administrators"), None, true).unwrap();
        assert!(!access.is_administrator(&headers(&[])));
        assert!(
            !access.is_administrator(&headers(&[("authorization", "Bearer the-administratorz")]))
        );
        assert!(
            access.is_administrator(&headers(&[("authorization", "Bearer the-administrators")]))
        );
        assert!(
            Access::new(None, None, true)
                .unwrap()
                .is_administrator(&headers(&[]))
        );
        assert!(
            !Access::new(None, None, false)
                .unwrap()
                .is_administrator(&headers(&[]))
        );
        assert!(Access::new(Some("a\nb"), None, false).is_err());
    }
}
