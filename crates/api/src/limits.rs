//! What may be tried how often: sign-ins by address and account, requests by address and user.
//!
//! A request is counted at its address before anything is done for it, and at its user once its token is found good. With a
//! Redis Cluster both are counted for all instances together, by the handful, so that most requests cost no way there.

use crate::{app::App, forwarded, options::Options, problem::Problem};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use jarvis_domain::{Clock, UserId};
use jarvis_store::{Limiter, Rate, Redis};
use metrics::{Counter, counter, describe_counter};
use std::net::{IpAddr, Ipv6Addr};

/// What may be tried how often.
pub(crate) struct Limits {
    /// Tries to sign in, by address.
    pub(crate) address: Limiter,
    /// Tries to sign in, by account.
    pub(crate) email: Limiter,
    requests_from: Option<Requests>,
    requests_of: Option<Requests>,
}

struct Requests {
    limiter: Limiter,
    refused: Counter,
}

impl Limits {
    /// Of all instances together, where they share a cluster.
    pub(crate) fn new(options: &Options, redis: Option<&Redis>, clock: &Clock) -> Self {
        describe_counter!(
            "jarvis_requests_limited_total",
            "Requests that were refused because there were too many, by what they were counted at."
        );
        let tries = |rate, name| match redis {
            Some(redis) => Limiter::shared(rate, clock.clone(), redis, name),
            None => Limiter::new(rate, clock.clone()),
        };
        let requests = |rate: Option<Rate>, by: &'static str| {
            let limiter = match redis {
                Some(redis) => {
                    let name = format!("requests:{by}");
                    Limiter::shared_by_handfuls(rate?, clock.clone(), redis, &name)
                }
                None => Limiter::new(rate?, clock.clone()),
            };
            let refused = counter!("jarvis_requests_limited_total", "by" => by);
            Some(Requests { limiter, refused })
        };
        Self {
            address: tries(options.rate_per_address, "address"),
            email: tries(options.rate_per_email, "email"),
            requests_from: requests(options.requests_per_address, "address"),
            requests_of: requests(options.requests_per_user, "user"),
        }
    }

    /// Whether requests are counted by address.
    pub(crate) fn mind_addresses(&self) -> bool {
        self.requests_from.is_some()
    }

    /// Counts a request of this user.
    pub(crate) async fn request_of(&self, user: UserId) -> Result<(), Problem> {
        match &self.requests_of {
            Some(requests) => requests.count(&user.to_string()).await,
            None => Ok(()),
        }
    }

    async fn request_from(&self, client: IpAddr) -> Result<(), Problem> {
        match &self.requests_from {
            Some(requests) => requests.count(&network(client)).await,
            None => Ok(()),
        }
    }
}

impl Requests {
    async fn count(&self, key: &str) -> Result<(), Problem> {
        self.limiter.take(key).await.map_err(|wait| {
            self.refused.increment(1);
            Problem::too_many_requests(wait)
        })
    }
}

/// What an address is counted by: who has one IPv6 address has all of its network.
pub(crate) fn network(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(bits).to_string()
        }
    }
}

/// Lets a request through if its address has not sent too many.
pub(crate) async fn count_address(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let client = forwarded::client(&app.options, request.headers(), request.extensions());
    match app.limits.request_from(client).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let of = |address: &str| network(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::9"), of("2001:db8:1:2:3:4:5:6"));
        assert_ne!(of("2001:db8:1:3::9"), of("2001:db8:1:2::9"));
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
    }
}
