//! How often, and for how long, one owner asks the balancer for one answer.

use jarvis_balancer::ChatError;
use std::time::Duration;
use tokio::time::Instant;

/// How often one owner asks the balancer for more of one answer, without getting any.
const TRIES: u32 = 3;
/// How often one owner asks for one answer in all, however little comes each time.
const TRIES_IN_ALL: u32 = 30;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// How long errors are borne: anew after each text, up to a number of tries in all.
pub(super) struct Patience {
    tries: u32,
    in_all: u32,
    within: Duration,
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(within: Duration) -> Self {
        Self {
            tries: 1,
            in_all: 1,
            within,
            since: None,
        }
    }

    /// There was text: what was borne before it is forgiven.
    pub(super) fn renew(&mut self) {
        self.tries = 0;
        self.since = None;
    }

    /// How long to wait before another try; none if there shall be none. An answer that has begun waits for a node that can
    /// go on with it; one that has not says at once that there is none.
    pub(super) fn after(&mut self, error: &ChatError, begun: bool) -> Option<Duration> {
        if error.retryable() {
            self.tries += 1;
            self.in_all += 1;
            return (self.tries <= TRIES && self.in_all <= TRIES_IN_ALL).then_some(PAUSE);
        }
        let may_pass = matches!(
            error,
            ChatError::NoNode { .. }
                | ChatError::UnknownModel { .. }
                | ChatError::NotResumable { .. }
                | ChatError::Overloaded
        );
        let since = *self.since.get_or_insert_with(Instant::now);
        (begun && may_pass && since.elapsed() < self.within).then_some(PAUSE * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> ChatError {
        ChatError::NodeFailed {
            node: "a".into(),
            message: "no".into(),
        }
    }

    fn away() -> ChatError {
        ChatError::NoNode { model: "m".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn text_renews_the_patience() {
        let within = Duration::from_secs(10);
        let mut patience = Patience::new(within);
        let borne = |patience: &mut Patience| {
            let tries = std::iter::from_fn(|| patience.after(&failed(), true));
            tries.count()
        };
        assert_eq!(borne(&mut patience), 2);
        patience.renew();
        assert_eq!(borne(&mut patience), 3, "the one that brought text is over");
        assert!(patience.after(&away(), true).is_some());
        tokio::time::advance(within).await;
        assert_eq!(patience.after(&away(), true), None);
        patience.renew();
        assert!(patience.after(&away(), true).is_some());
    }

    #[test]
    fn no_answer_is_asked_for_without_end() {
        let mut patience = Patience::new(Duration::ZERO);
        let mut asked = 1;
        while patience.after(&failed(), true).is_some() {
            patience.renew();
            asked += 1;
        }
        assert_eq!(asked, TRIES_IN_ALL);
    }
}
