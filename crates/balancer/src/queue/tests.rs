//! Slots and queue together, as the dispatcher uses them. Waiters are polled by hand, and only when they were woken.

use super::{board::Tag, waiter::QueueFull, *};
use proptest::prelude::*;
use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::{
    task,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

const FAR: Duration = Duration::from_hours(1);

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// A waiter, and whether it was woken since it was last polled.
struct Task {
    waiter: Waiter,
    woken: Arc<Flag>,
}

impl Task {
    fn new(waiter: Waiter) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        Self { waiter, woken }
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(SeqCst)
    }

    fn poll(&mut self) -> Option<Turn> {
        self.woken.0.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        // One task polls them all: its share of polls must not make alarms wait.
        let turn = pin!(task::coop::unconstrained(self.waiter.turn()));
        match turn.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    /// Its first try fails, it is told of its place, and waits.
    fn settle(&mut self) -> Place {
        assert_eq!(self.poll(), Some(Turn::Try));
        self.waiter.lost();
        let Some(Turn::Moved(place)) = self.poll() else {
            panic!("told where it stands")
        };
        assert_eq!(self.poll(), None);
        place
    }
}

fn entry(tag: &str) -> Entry {
    Entry {
        priority: Priority::Normal,
        user: 1,
        tag: tag.into(),
        deadline: Instant::now() + FAR,
        estimate: Some(Box::new(|line| {
            let turns = u32::try_from(line.ahead + 1).unwrap();
            Some(Duration::from_secs_f64(line.mean_hold?) * turns / 2)
        })),
    }
}

/// What is free: a number that takers count down.
#[derive(Clone, Default)]
struct Stock(Arc<AtomicU32>);

impl Stock {
    fn put(&self, queue: &Queue, slots: u32, tag: &'static str) {
        self.0.fetch_add(slots, SeqCst);
        let stock = self.clone();
        queue.wake_for(move |wanted| wanted == tag && stock.0.load(SeqCst) > 0);
    }

    fn take(&self, task: Task) {
        self.0.fetch_sub(1, SeqCst);
        task.waiter.took();
    }
}

fn enter(queue: &Queue, entry: Entry) -> Task {
    Task::new(queue.enter(entry).unwrap())
}

fn settled(queue: &Queue, tag: &str) -> Task {
    let mut task = enter(queue, entry(tag));
    task.settle();
    task
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_tries_at_once_and_then_knows_its_place() {
    let queue = Queue::new(8);
    queue.held(Duration::from_secs(4));
    let mut first = enter(&queue, entry("a"));
    let mut second = enter(&queue, entry("a"));
    assert_eq!(second.poll(), Some(Turn::Moved(second.waiter.place())));
    let place = first.settle();
    let eta = Some(Duration::from_secs(2));
    assert_eq!(place, Place { ahead: 0, eta });
    assert_eq!(second.poll(), Some(Turn::Try), "the first has had its try");
    second.waiter.lost();
    let eta = Some(Duration::from_secs(4));
    assert_eq!(second.waiter.place(), Place { ahead: 1, eta });
    assert_eq!(queue.mean_hold(), Some(Duration::from_secs(4)));
}

#[tokio::test(start_paused = true)]
async fn what_was_freed_goes_to_the_first_who_can_use_it_and_wakes_nobody_else() {
    let queue = Queue::new(8);
    let mut tasks: Vec<_> = ["a", "b", "b", "a"].map(|tag| settled(&queue, tag)).into();
    let stock = Stock::default();
    stock.put(&queue, 1, "b");
    let woken: Vec<_> = tasks.iter().map(Task::is_woken).collect();
    assert_eq!(woken, [false, true, false, false]);
    assert_eq!(tasks[1].poll(), Some(Turn::Try));
    stock.take(tasks.remove(1));
    assert!(!tasks.iter().any(Task::is_woken), "one slot, one taker");
    assert_eq!(
        queue.by_tag(),
        HashMap::from([("a".into(), 2), ("b".into(), 1)])
    );
    assert_eq!((queue.waiting_for("a"), queue.waiting_for("c")), (2, 0));
    stock.put(&queue, 1, "c");
    assert!(!tasks.iter().any(Task::is_woken), "of use to nobody");
}

#[tokio::test(start_paused = true)]
async fn several_slots_are_offered_one_after_the_other() {
    let queue = Queue::new(8);
    let mut tasks: Vec<_> = (0..4).map(|_| settled(&queue, "a")).collect();
    let stock = Stock::default();
    stock.put(&queue, 2, "a");
    for _ in 0..2 {
        let woken: Vec<_> = tasks.iter().filter(|task| task.is_woken()).collect();
        assert_eq!(woken.len(), 1);
        assert_eq!(tasks[0].poll(), Some(Turn::Try));
        stock.take(tasks.remove(0));
    }
    assert!(!tasks.iter().any(Task::is_woken));
}

#[tokio::test(start_paused = true)]
async fn who_lost_a_race_keeps_its_place_and_the_next_tag_is_asked() {
    let queue = Queue::new(8);
    let mut tasks: Vec<_> = ["a", "a", "b"].map(|tag| settled(&queue, tag)).into();
    queue.wake();
    assert_eq!(tasks[0].poll(), Some(Turn::Try));
    tasks[0].waiter.lost();
    assert!(!tasks[1].is_woken(), "nothing is left for its tag");
    assert!(tasks[2].is_woken());
    assert_eq!(tasks[0].poll(), None);
    assert_eq!(tasks[2].poll(), Some(Turn::Try));
    // Asking for the next turn without a word means that it was lost.
    assert_eq!(tasks[2].poll(), None);
    queue.wake_for(|_| true);
    assert!(tasks[0].is_woken(), "still first");
}

#[tokio::test(start_paused = true)]
async fn who_passes_lets_the_next_try() {
    let queue = Queue::new(8);
    let mut tasks: Vec<_> = (0..3).map(|_| settled(&queue, "a")).collect();
    queue.wake_for(|_| true);
    for task in &mut tasks {
        assert_eq!(task.poll(), Some(Turn::Try));
        task.waiter.pass();
    }
    assert!(!tasks.iter().any(Task::is_woken), "nobody wanted it");
}

#[tokio::test(start_paused = true)]
async fn a_woken_waiter_that_is_dropped_passes_its_turn_on() {
    let queue = Queue::new(8);
    let mut tasks: Vec<_> = (0..3).map(|_| settled(&queue, "a")).collect();
    queue.wake_for(|_| true);
    assert!(tasks[0].is_woken());
    drop(tasks.remove(0));
    assert_eq!(tasks[0].poll(), Some(Turn::Try));
    drop(tasks.remove(0));
    assert_eq!(
        tasks[0].poll(),
        Some(Turn::Try),
        "in the midst of its try, too"
    );
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_finds_everybody_trying_is_kept_for_them() {
    let queue = Queue::new(8);
    let mut tasks: Vec<_> = (0..2).map(|_| settled(&queue, "a")).collect();
    queue.wake_for(|_| true);
    queue.wake_for(|_| true);
    queue.wake_for(|_| true);
    assert_eq!(tasks[0].poll(), Some(Turn::Try));
    tasks[0].waiter.lost();
    assert!(tasks[0].is_woken() || tasks[0].poll() == Some(Turn::Try));
    assert_eq!(tasks[1].poll(), Some(Turn::Try));
    for _ in 0..100 {
        queue.wake_for(|_| true);
    }
    tasks[1].waiter.lost();
    assert_eq!(tasks[1].poll(), Some(Turn::Try));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_waiter_holds_up_nobody_for_long() {
    let queue = Queue::new(8);
    let mut stuck = settled(&queue, "a");
    let mut next = settled(&queue, "a");
    queue.wake_for(|_| true);
    assert!(stuck.is_woken() && !next.is_woken());
    time::advance(Duration::from_millis(999)).await;
    assert_eq!(next.poll(), None);
    time::advance(Duration::from_millis(1)).await;
    assert_eq!(next.poll(), Some(Turn::Try));
    assert_eq!(
        stuck.poll(),
        Some(Turn::Try),
        "it may have missed something"
    );
    stuck.waiter.lost();
    next.waiter.lost();
    assert_eq!((stuck.poll(), next.poll()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_its_bound_can_change() {
    let queue = Queue::new(2);
    let held: Vec<_> = (0..2).map(|_| enter(&queue, entry("a"))).collect();
    assert_eq!(queue.enter(entry("a")).unwrap_err(), QueueFull { limit: 2 });
    queue.set_limit(3);
    assert!(queue.enter(entry("a")).is_ok());
    assert_eq!(queue.len(), 2);
    drop(held);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline_and_off_the_queue() {
    let queue = Queue::new(2);
    let deadline = Instant::now() + Duration::from_secs(7);
    let mut waiter = queue
        .enter(Entry {
            deadline,
            ..entry("a")
        })
        .unwrap();
    let mut turns = Vec::new();
    while turns.last() != Some(&Turn::Late) {
        turns.push(waiter.turn().await);
    }
    let place = Place {
        ahead: 0,
        eta: None,
    };
    assert_eq!(turns, [Turn::Try, Turn::Moved(place), Turn::Late]);
    assert_eq!(Instant::now(), deadline);
    assert!(queue.is_empty());
    assert_eq!(waiter.turn().await, Turn::Late);
}

#[tokio::test(start_paused = true)]
async fn one_whose_deadline_has_passed_unseen_is_not_offered_anything() {
    let queue = Queue::new(4);
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut late = enter(
        &queue,
        Entry {
            deadline,
            ..entry("a")
        },
    );
    late.settle();
    let mut next = settled(&queue, "a");
    time::advance(Duration::from_secs(2)).await;
    queue.wake_for(|_| true);
    assert_eq!(queue.len(), 1);
    assert_eq!(next.poll(), Some(Turn::Try));
    assert_eq!(late.poll(), Some(Turn::Late));
}

#[tokio::test(start_paused = true)]
async fn moves_are_told_at_most_twice_a_second() {
    let queue = Queue::new(200);
    let ahead: Vec<_> = (0..100).map(|_| settled(&queue, "a")).collect();
    let mut waiter = queue.enter(entry("a")).unwrap();
    assert_eq!(waiter.turn().await, Turn::Try);
    assert!(matches!(
        waiter.turn().await,
        Turn::Moved(Place { ahead: 100, .. })
    ));
    let begun = Instant::now();
    let leaving = async {
        for task in ahead {
            time::sleep(Duration::from_millis(20)).await;
            drop(task);
        }
        time::sleep(FAR / 2).await;
    };
    let listening = async {
        let mut told = Vec::new();
        loop {
            match waiter.turn().await {
                Turn::Moved(place) => told.push((begun.elapsed(), place.ahead)),
                other => panic!("{other:?}"),
            }
            if told.last().is_some_and(|(_, ahead)| *ahead == 0) {
                return told;
            }
        }
    };
    let told = tokio::select! {
        told = listening => told,
        () = leaving => panic!("never told that it is first"),
    };
    assert!((4..=6).contains(&told.len()), "{told:?}");
    assert!(
        told.is_sorted_by(
            |one, next| one.1 > next.1 && next.0 >= one.0 + Duration::from_millis(500)
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_costs_less_than_two_kibibytes() {
    let queue = Queue::new(2);
    let mut waiter = queue.enter(entry("a")).unwrap();
    let itself = size_of::<Waiter>();
    let waiting = size_of_val(&waiter.turn());
    let on_board = board::ENTRY_BYTES;
    let sum = itself + waiting + on_board;
    assert!(
        sum < 1024,
        "{itself} + {waiting} + {on_board}: half is left for allocation"
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_waiters_one_is_woken_for_one_slot() {
    let (queue, stock) = (Queue::new(1000), Stock::default());
    let mut tasks: Vec<_> = (0..1000).map(|_| settled(&queue, "a")).collect();
    for _ in 0..10 {
        stock.put(&queue, 1, "a");
        let woken = |task: &Task| task.is_woken();
        assert_eq!(tasks.iter().filter(|task| woken(task)).count(), 1);
        assert_eq!(tasks[0].poll(), Some(Turn::Try));
        stock.take(tasks.remove(0));
        assert!(!tasks.iter().any(woken));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_late_makes_room_even_if_it_is_stuck() {
    let queue = Queue::new(1);
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut stuck = enter(
        &queue,
        Entry {
            deadline,
            ..entry("a")
        },
    );
    stuck.settle();
    time::advance(Duration::from_millis(999)).await;
    assert!(queue.enter(entry("a")).is_err());
    time::advance(Duration::from_millis(1)).await;
    let mut next = enter(&queue, entry("a"));
    assert_eq!(next.poll(), Some(Turn::Try));
    assert_eq!(stuck.poll(), Some(Turn::Late));
}

#[tokio::test(start_paused = true)]
async fn users_take_turns_whatever_their_backlogs() {
    let (queue, stock) = (Queue::new(200), Stock::default());
    let with = |user| Entry { user, ..entry("a") };
    let enter = |user, count| (0..count).map(move |_| (user, with(user)));
    let mut tasks = Vec::new();
    for (user, entry) in enter(1, 100).chain(enter(2, 5)) {
        let mut task = Task::new(queue.enter(entry).unwrap());
        task.settle();
        tasks.push((user, task));
    }
    let served: Vec<_> = (0..10)
        .map(|_| {
            stock.put(&queue, 1, "a");
            let at = tasks.iter().position(|(_, task)| task.is_woken()).unwrap();
            let (user, mut task) = tasks.remove(at);
            assert_eq!(task.poll(), Some(Turn::Try));
            stock.take(task);
            user
        })
        .collect();
    assert_eq!(served, [1, 2].repeat(5));
}

/// Two nodes with two slots each: one has models a and b, the other b and c.
struct World {
    queue: Queue,
    nodes: [Arc<Slots>; 2],
    tasks: Vec<(u64, Task)>,
    claims: Vec<Claim>,
    entered: u64,
    took: u64,
    late: u64,
    left: u64,
}

fn free_slots(slots: Weak<Slots>) -> impl Fn() -> u32 {
    move || slots.upgrade().map_or(0, |slots| slots.free())
}

const MODELS: [&[&str]; 2] = [&["a", "b"], &["b", "c"]];

impl World {
    fn new() -> Self {
        let queue = Queue::new(24);
        let nodes = MODELS.map(|models| {
            let queue = queue.clone();
            Arc::new_cyclic(|slots: &Weak<Slots>| {
                let slots = slots.clone();
                Slots::new(Capacity::Fixed(2), move |freed: Freed| {
                    if let Some(held) = freed.held {
                        queue.held(held);
                    }
                    if freed.slots > 0 {
                        let free = free_slots(slots.clone());
                        queue.wake_for(move |tag| models.contains(&tag) && free() > 0);
                    }
                })
            })
        });
        Self {
            queue,
            nodes,
            tasks: Vec::new(),
            claims: Vec::new(),
            entered: 0,
            took: 0,
            late: 0,
            left: 0,
        }
    }

    fn usable(&self, tag: &str) -> Option<&Arc<Slots>> {
        let nodes = self.nodes.iter().zip(MODELS);
        let mut usable = nodes.filter(|(slots, models)| models.contains(&tag) && slots.free() > 0);
        usable.next().map(|(slots, _)| slots)
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Enter(priority, user, tag, seconds) => {
                let entry = Entry {
                    priority: *priority,
                    user: *user,
                    tag: (*tag).into(),
                    deadline: Instant::now() + Duration::from_secs(*seconds),
                    estimate: Some(Box::new(|line| line.mean_hold.map(Duration::from_secs_f64))),
                };
                let full = self.queue.len() >= 24;
                let entered = self.queue.enter(entry);
                assert_eq!(entered.is_err(), full);
                if let Ok(waiter) = entered {
                    self.tasks.push((self.entered, Task::new(waiter)));
                    self.entered += 1;
                }
            }
            Act::Finish(at) if !self.claims.is_empty() => {
                drop(self.claims.swap_remove(at % self.claims.len()));
            }
            Act::Leave(at) if !self.tasks.is_empty() => {
                self.tasks.swap_remove(at % self.tasks.len());
                self.left += 1;
            }
            Act::Resize(node, to) => self.nodes[*node].set_capacity(Capacity::Fixed(*to)),
            Act::Run(at) => self.run_one(*at, false),
            Act::RunLate(at) => self.run_one(*at, true),
            Act::Finish(_) | Act::Leave(_) => {}
        }
    }

    /// Polls one of those who were woken. `late`: should its try fail, a slot is freed before it says so.
    fn run_one(&mut self, pick: usize, late: bool) {
        let woken: Vec<_> = (0..self.tasks.len())
            .filter(|at| self.tasks[*at].1.is_woken())
            .collect();
        if woken.is_empty() {
            return;
        }
        let at = woken[pick % woken.len()];
        match self.tasks[at].1.poll() {
            Some(Turn::Try) => {
                let tag = self.tag_of(at);
                let claim = self
                    .usable(&tag)
                    .and_then(|slots| slots.try_claim(Instant::now()));
                let (_, mut task) = self.tasks.swap_remove(at);
                if let Some(claim) = claim {
                    assert!(self.nodes.iter().all(|node| node.active() <= 5));
                    self.claims.push(claim);
                    self.took += 1;
                    task.waiter.took();
                } else {
                    if late && !self.claims.is_empty() {
                        drop(self.claims.swap_remove(pick % self.claims.len()));
                    }
                    task.waiter.lost();
                    task.woken.0.store(true, SeqCst);
                    self.tasks.push((0, task));
                }
            }
            Some(Turn::Late) => {
                self.tasks.swap_remove(at);
                self.late += 1;
            }
            // Would ask again at once.
            Some(Turn::Moved(_)) => self.tasks[at].1.woken.0.store(true, SeqCst),
            None => {}
        }
    }

    fn tag_of(&self, at: usize) -> Tag {
        self.tasks[at].1.waiter.tag()
    }

    fn run_all(&mut self) {
        let mut steps = 0;
        while self.tasks.iter().any(|(_, task)| task.is_woken()) {
            self.run_one(steps * 7, false);
            steps += 1;
            assert!(steps < 20_000, "goes round for ever");
        }
    }

    /// What must hold once everybody who was woken has been polled: nothing is free that somebody waits for.
    fn check(&self) {
        for at in 0..self.tasks.len() {
            let tag = self.tag_of(at);
            assert!(self.usable(&tag).is_none(), "a slot for {tag} is free");
        }
        let ended = self.took + self.late + self.left;
        assert_eq!(self.entered, ended + self.tasks.len() as u64);
        assert_eq!(self.queue.len(), self.tasks.len());
        let held: u32 = self.nodes.iter().map(|node| node.active()).sum();
        assert_eq!(held as usize, self.claims.len());
    }
}

#[derive(Debug, Clone)]
enum Act {
    Enter(Priority, u64, &'static str, u64),
    Finish(usize),
    Leave(usize),
    Resize(usize, u32),
    Run(usize),
    RunLate(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let tag = prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        6 => (priority, 0u64..4, tag, 1u64..200).prop_map(|(p, u, t, d)| Act::Enter(p, u, t, d)),
        4 => any::<usize>().prop_map(Act::Finish),
        2 => any::<usize>().prop_map(Act::Leave),
        1 => (0usize..2, 1u32..5).prop_map(|(node, to)| Act::Resize(node, to)),
        9 => any::<usize>().prop_map(Act::Run),
        3 => any::<usize>().prop_map(Act::RunLate),
    ]
}

/// Every wait here ends only if no freed slot goes unnoticed, whichever threads free, enter and try at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_lose_no_waking() {
    let world = Arc::new(World::new());
    let tasks = TaskTracker::new();
    for number in 0..40 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            for round in 0..50 {
                let tag = ["a", "b", "c"][(number + round) % 3];
                let user = number as u64;
                let claim = loop {
                    let Ok(mut waiter) = world.queue.enter(Entry { user, ..entry(tag) }) else {
                        task::yield_now().await;
                        continue;
                    };
                    if let Some(claim) = wait(&world, &mut waiter).await {
                        waiter.took();
                        break claim;
                    }
                };
                task::yield_now().await;
                drop(claim);
            }
        });
    }
    tasks.close();
    time::timeout(Duration::from_mins(1), tasks.wait())
        .await
        .expect("somebody waits for ever");
    assert!(world.queue.is_empty());
    let active = world.nodes.each_ref().map(|node| node.active());
    assert_eq!(active, [0, 0]);
}

/// `None`: it gave up in the midst of its try.
async fn wait(world: &World, waiter: &mut Waiter) -> Option<Claim> {
    let mut tries = 0;
    loop {
        if waiter.turn().await == Turn::Try {
            let claim = world
                .usable(&waiter.tag())
                .and_then(|slots| slots.try_claim(Instant::now()));
            tries += 1;
            if claim.is_some() || tries > 7 {
                return claim;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(512) })]

    /// Whatever comes between a waking and the poll it asks for: nobody is lost, no slot stays free while somebody
    /// could use it, and everything is given back in the end.
    #[test]
    fn nobody_is_lost(rounds in prop::collection::vec(prop::collection::vec(act(), 1..25), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for acts in &rounds {
                for act in acts {
                    world.act(act);
                }
                world.run_all();
                world.check();
                time::advance(Duration::from_secs(20)).await;
                // Their alarms have gone off.
                for (_, task) in &world.tasks {
                    task.woken.0.store(true, SeqCst);
                }
            }
            while !world.claims.is_empty() {
                world.claims.pop();
                world.run_all();
                world.check();
            }
            assert!(world.tasks.is_empty(), "all were served, late or gone");
            assert_eq!(world.nodes.each_ref().map(|node| node.active()), [0, 0]);
        });
    }
}
