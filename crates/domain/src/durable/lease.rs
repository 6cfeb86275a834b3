//! Who is there: one lease per instance, written and judged by the database's clock.

use super::Rules;
use crate::{InstanceId, Timestamp};

/// An instance's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub instance: InstanceId,
    /// Which run of the database's server took it: it differs after a restart and after a fail-over.
    pub server: i64,
    /// Since when it has been renewed without a gap, on this server.
    pub since: Timestamp,
    /// Until when it holds.
    pub until: Timestamp,
}

/// One look at the table of leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The database's clock.
    pub now: Timestamp,
    /// This run of its server.
    pub server: i64,
    /// Every lease.
    pub leases: Vec<Lease>,
}

impl Rules {
    /// Whether a lease holds. One from another run of the server does not: its clock is another one, and so does none that
    /// reaches further than a lease can, which was written before the clock was set back.
    #[must_use]
    pub fn holds(&self, beat: &Beat, lease: &Lease) -> bool {
        lease.server == beat.server
            && beat.now < lease.until
            && lease.until <= beat.now + self.lease
    }

    /// The lease that an instance writes at this look.
    #[must_use]
    pub fn renewed(&self, beat: &Beat, instance: InstanceId) -> Lease {
        let before = beat.leases.iter().find(|lease| lease.instance == instance);
        let unbroken = before.filter(|lease| self.holds(beat, lease));
        Lease {
            instance,
            server: beat.server,
            since: unbroken.map_or(beat.now, |lease| lease.since),
            until: beat.now + self.lease,
        }
    }

    /// The instances that are there, besides the holder of `mine`.
    #[must_use]
    pub fn others(&self, beat: &Beat, mine: &Lease) -> Vec<InstanceId> {
        let there = beat.leases.iter().filter(|lease| self.holds(beat, lease));
        there
            .map(|lease| lease.instance)
            .filter(|instance| *instance != mine.instance)
            .collect()
    }

    /// Whether the holder of `mine` may judge who is gone: not before it has itself renewed for a whole lease without a gap.
    /// While the database is away, or after it has failed over, nobody can renew, and whoever is there shall have had the time
    /// to say so before anybody judges.
    #[must_use]
    pub fn may_judge(&self, beat: &Beat, mine: &Lease) -> bool {
        self.holds(beat, mine) && beat.now.since(mine.since) >= self.lease
    }

    /// The instances whose answers the holder of `mine` may take over.
    #[must_use]
    pub fn gone(&self, beat: &Beat, mine: &Lease) -> Vec<InstanceId> {
        if !self.may_judge(beat, mine) {
            return Vec::new();
        }
        let others = beat.leases.iter();
        others
            .filter(|lease| lease.instance != mine.instance && !self.holds(beat, lease))
            .map(|lease| lease.instance)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn nobody_judges_before_a_whole_lease_of_its_own() {
        let rules = Rules::default();
        let (me, other) = (InstanceId::new(), InstanceId::new());
        let dead = Lease {
            instance: other,
            server: 7,
            since: at(0),
            until: at(3),
        };
        let beat = |now, leases| Beat {
            now: at(now),
            server: 7,
            leases,
        };
        let first = rules.renewed(&beat(10, vec![dead]), me);
        assert_eq!((first.since, first.until), (at(10), at(13)));
        assert!(rules.gone(&beat(10, vec![dead, first]), &first).is_empty());
        let second = rules.renewed(&beat(12, vec![dead, first]), me);
        let third = rules.renewed(&beat(13, vec![dead, second]), me);
        assert_eq!(third.since, at(10));
        let look = beat(13, vec![dead, third]);
        assert_eq!(rules.gone(&look, &third), [other]);
        // A gap, or another server, begins anew.
        let late = rules.renewed(&beat(16, vec![third]), me);
        assert_eq!(late.since, at(16));
        let elsewhere = Beat {
            server: 8,
            ..beat(14, vec![third])
        };
        assert_eq!(rules.renewed(&elsewhere, me).since, at(14));
    }

    #[test]
    fn an_instance_is_there_until_its_lease_has_run_out() {
        let rules = Rules::default();
        let other = Lease {
            instance: InstanceId::new(),
            server: 7,
            since: at(5),
            until: at(13),
        };
        let beat = |now| Beat {
            now: at(now),
            server: 7,
            leases: vec![other],
        };
        let mine = rules.renewed(&beat(12), InstanceId::new());
        assert_eq!(rules.others(&beat(12), &mine), [other.instance]);
        assert!(rules.others(&beat(12), &other).is_empty());
        assert!(rules.others(&beat(13), &mine).is_empty());
    }

    #[test]
    fn a_lease_from_a_clock_that_was_set_back_does_not_hold() {
        let rules = Rules::default();
        let lease = Lease {
            instance: InstanceId::new(),
            server: 7,
            since: at(3600),
            until: at(3603),
        };
        let beat = Beat {
            now: at(100),
            server: 7,
            leases: vec![lease],
        };
        assert!(!rules.holds(&beat, &lease));
    }
}
