//! Who makes which answer: leases, claims, checkpoints, and what is refused.

use crate::{NOW, Store, on_both, opening, user};
use jarvis_domain::{
    Generation, GenerationId, InstanceId, Status,
    durable::{Bases, Keep, Kept, Path, Rules},
};
use jarvis_store::{Begin, Begun, Checkpoint, Db, Outcome, StoreError};
use std::time::Duration;

on_both![
    of_two_that_come_at_once_each_is_seen_by_its_next_look,
    an_owner_keeps_and_a_late_one_is_refused,
    what_is_given_up_is_taken_over_and_not_counted,
    a_lost_owner_is_counted_and_oneself_is_not,
    a_stop_is_seen_by_whoever_makes_the_answer,
    who_has_no_lease_owns_nothing,
];

/// Leases that lapse while a test waits.
fn rules() -> Rules {
    Rules {
        lease: Duration::from_millis(300),
        ..Rules::default()
    }
}

async fn begin(db: &Db, owner: InstanceId) -> Generation {
    let email = format!("{}@example.org", GenerationId::new());
    let user = user(db, &email).await;
    let begin = Begin {
        owner,
        ..opening(user.id, "q")
    };
    match db.begin(begin).await.unwrap() {
        Begun::New { generation, .. } => generation,
        other => panic!("{other:?}"),
    }
}

fn checkpoint(generation: &Generation, number: u64, text: &str, path: Path) -> Checkpoint {
    let bases = Bases::default().with(generation.epoch, 0);
    let kept = Kept {
        bases,
        text: text.to_owned(),
        tokens: number,
        path,
    };
    let to = text.len();
    let keep = Keep { number, to, path };
    Checkpoint::new(generation.id, generation.epoch, keep, kept)
}

/// Looks until there is an answer that nobody makes; its epoch.
async fn unowned(db: &Db, me: InstanceId, id: GenerationId) -> u32 {
    loop {
        let look = db.look_around(me, &rules()).await.unwrap();
        if let Some((_, epoch)) = look.unowned.iter().find(|(found, _)| *found == id) {
            return *epoch;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn of_two_that_come_at_once_each_is_seen_by_its_next_look(store: Store) {
    let db = store.open().await;
    let (one, two) = (InstanceId::new(), InstanceId::new());
    let look = async |me| db.look_around(me, &Rules::default()).await.unwrap().others;
    assert!(look(one).await.is_empty());
    look(two).await;
    // Alone on its file, an instance knows that any other is gone.
    let shared = db.is_shared();
    assert_eq!(look(one).await, if shared { vec![two] } else { vec![] });
    assert_eq!(look(two).await, if shared { vec![one] } else { vec![] });
}

async fn an_owner_keeps_and_a_late_one_is_refused(store: Store) {
    let db = store.open().await;
    let (old, new) = (InstanceId::new(), InstanceId::new());
    db.look_around(old, &Rules::default()).await.unwrap();
    let (one, two) = (begin(&db, old).await, begin(&db, old).await);
    let both = [
        checkpoint(&one, 1, "caf\u{e9} \"x\"", Path::Log),
        checkpoint(&two, 1, "", Path::Log),
    ];
    let mut taken = db.keep(&both).await.unwrap();
    taken.sort();
    assert_eq!(taken, [one.id, two.id]);
    let kept = db.kept(one.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.text.as_str(), kept.tokens, kept.path),
        ("caf\u{e9} \"x\"", 1, Path::Log)
    );
    let row = db.generation(one.user_id, one.id).await.unwrap().unwrap();
    assert_eq!(row.status, Status::Running);
    let row = db.generation(two.user_id, two.id).await.unwrap().unwrap();
    assert_eq!(row.status, Status::Queued, "it has no text yet");
    // One that comes after its successor.
    let later = checkpoint(&one, 3, "later", Path::Sql);
    assert_eq!(db.keep(&[later]).await.unwrap(), [one.id]);
    let late = checkpoint(&one, 2, "late", Path::Log);
    assert_eq!(db.keep(&[late]).await.unwrap(), []);
    // Another owner.
    db.give_up(old, &[]).await.unwrap();
    db.look_around(new, &rules()).await.unwrap();
    let claimed = db.claim(one.id, 1, new).await.unwrap().unwrap();
    assert_eq!(
        (claimed.kept.text.as_str(), claimed.kept.path),
        ("later", Path::Sql)
    );
    let paused = checkpoint(&one, 4, "paused", Path::Sql);
    assert_eq!(db.keep(&[paused]).await.unwrap(), []);
    let outcome = Outcome {
        status: Status::Done,
        usage: None,
        error: None,
    };
    let finished = db.finish(&one, "paused", &outcome, NOW).await;
    assert!(matches!(finished, Err(StoreError::Fenced)));
    let first = checkpoint(&claimed.generation, 1, "later on", Path::Log);
    assert_eq!(db.keep(&[first]).await.unwrap(), [one.id]);
    let kept = db.kept(one.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.text.as_str(), kept.bases.to_string().as_str()),
        ("later on", "2:0")
    );
    assert_eq!(db.kept(GenerationId::new()).await.unwrap(), None);
}

async fn what_is_given_up_is_taken_over_and_not_counted(store: Store) {
    let db = store.open().await;
    let (old, new) = (InstanceId::new(), InstanceId::new());
    db.look_around(old, &Rules::default()).await.unwrap();
    let generation = begin(&db, old).await;
    let last = checkpoint(&generation, 1, "so far", Path::Sql);
    db.give_up(old, &[last]).await.unwrap();
    let look = db.look_around(new, &Rules::default()).await.unwrap();
    assert_eq!(look.unowned, [(generation.id, 1)], "at once");
    let claimed = db.claim(generation.id, 1, new).await.unwrap().unwrap();
    assert_eq!(
        (claimed.generation.epoch, claimed.generation.attempts),
        (2, 1)
    );
    assert_eq!(claimed.kept.text, "so far");
    let look = db.look_around(new, &Rules::default()).await.unwrap();
    assert_eq!((look.mine[0].id, look.mine[0].epoch), (generation.id, 2));
    assert_eq!(look.unowned, []);
}

async fn a_lost_owner_is_counted_and_oneself_is_not(store: Store) {
    let db = store.open().await;
    let (old, new) = (InstanceId::new(), InstanceId::new());
    db.look_around(old, &rules()).await.unwrap();
    let generation = begin(&db, old).await;
    assert_eq!(
        db.claim(generation.id, 1, new).await.unwrap(),
        None,
        "its owner has a lease"
    );
    let epoch = unowned(&db, new, generation.id).await;
    let claimed = db.claim(generation.id, epoch, new).await.unwrap().unwrap();
    assert_eq!(
        (claimed.generation.epoch, claimed.generation.attempts),
        (2, 2)
    );
    let again = db.claim(generation.id, 2, new).await.unwrap().unwrap();
    assert_eq!((again.generation.epoch, again.generation.attempts), (3, 2));
    // The one who was asleep. (On a file it is alone, and whoever else has a lease there is gone.)
    let look = db.look_around(old, &Rules::default()).await.unwrap();
    assert_eq!(look.mine, []);
    assert_eq!(look.unowned.is_empty(), db.is_shared());
}

async fn a_stop_is_seen_by_whoever_makes_the_answer(store: Store) {
    let db = store.open().await;
    let (me, next) = (InstanceId::new(), InstanceId::new());
    db.look_around(me, &Rules::default()).await.unwrap();
    let generation = begin(&db, me).await;
    let (user, id) = (generation.user_id, generation.id);
    let other = jarvis_domain::UserId::new();
    assert!(!db.ask_to_stop(other, id, NOW).await.unwrap());
    assert!(!db.look_around(me, &Rules::default()).await.unwrap().mine[0].stop);
    assert!(db.ask_to_stop(user, id, NOW).await.unwrap());
    assert!(db.look_around(me, &Rules::default()).await.unwrap().mine[0].stop);
    db.give_up(me, &[]).await.unwrap();
    assert!(db.claim(id, 1, next).await.unwrap().unwrap().stop);
}

async fn who_has_no_lease_owns_nothing(store: Store) {
    let db = store.open().await;
    let me = InstanceId::new();
    let generation = begin(&db, InstanceId::new()).await;
    let look = db.look_around(me, &Rules::default()).await.unwrap();
    assert_eq!(look.unowned, [(generation.id, 1)]);
    let claimed = db.claim(generation.id, 1, me).await.unwrap().unwrap();
    assert_eq!(claimed.generation.attempts, 1);
}
