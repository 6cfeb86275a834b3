//! The life of one socket: authentication, then frames in and events out until one side ends it. One task, no queue: what
//! a slow reader has missed comes together from the log.

use super::{
    followed::Followed,
    frames::{ClientFrame, ServerFrame},
    wire::{Closed, Wire},
};
use crate::{
    app::App,
    auth::Principal,
    generations::{self, Asked, Follower, Question},
    hub::Notice,
    json::identifier,
    messages::{self, Accepted, ParentField},
    meter,
    problem::Problem,
};
use hyper::upgrade::OnUpgrade;
use jarvis_domain::{Generation, GenerationId, durable::Reader};
use std::pin::pin;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Runs a socket to its end.
pub(super) async fn run(app: App, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else {
        return;
    };
    let _open = meter::OpenSocket::new(app.clone());
    let mut wire = Wire::new(&app.options, upgraded).await;
    let why = match authenticate(&app, &mut wire).await {
        Ok(who) => Session::new(&app, who).run(&mut wire).await,
        Err(why) => why,
    };
    Box::pin(wire.close(why)).await;
}

/// Waits for the first frame and the token in it.
async fn authenticate(app: &App, wire: &mut Wire) -> Result<Principal, Closed> {
    let first = async {
        loop {
            if let Some(text) = wire.read().await? {
                return Ok(text);
            }
        }
    };
    let text = tokio::select! {
        first = timeout(app.options.socket.auth_within, first) => first.unwrap_or(Err(Closed::Late))?,
        () = app.stopping.cancelled() => return Err(Closed::Stopping),
    };
    let Ok(ClientFrame::Auth { access_token }) = serde_json::from_str(&text) else {
        return Err(Closed::Unauthorized);
    };
    Box::pin(admit(app, wire, &access_token, None)).await
}

/// Checks a token and says so. A renewal must be of the same account.
async fn admit(
    app: &App,
    wire: &mut Wire,
    token: &str,
    before: Option<&Principal>,
) -> Result<Principal, Closed> {
    let who = match app.tokens.verify(token).await {
        Ok(who) if before.is_none_or(|before| before.user == who.user) => who,
        Ok(_) => return Err(Closed::Unauthorized),
        Err(problem) => return Err(refuse(wire, &problem).await),
    };
    wire.tell(&ServerFrame::Ready {
        user_id: who.user,
        expires_at: who.expires_at,
    })
    .await?;
    Ok(who)
}

async fn refuse(wire: &mut Wire, problem: &Problem) -> Closed {
    match wire.tell(&ServerFrame::refused(problem, None)).await {
        Ok(()) => Closed::Unauthorized,
        Err(gone) => gone,
    }
}

struct Session {
    app: App,
    who: Principal,
    followed: Followed,
    /// When the peer last gave a sign of life.
    heard: Instant,
    next_ping: Instant,
    expires: Instant,
}

/// What a socket woke up for.
enum Woken {
    Read(Result<Option<Utf8Bytes>, Closed>),
    Event(generations::Event),
    Clock,
}

impl Session {
    fn new(app: &App, who: Principal) -> Self {
        let now = Instant::now();
        Self {
            followed: Followed::default(),
            heard: now,
            next_ping: now + app.options.socket.ping_every,
            expires: expiry(app, &who),
            app: app.clone(),
            who,
        }
    }

    async fn run(mut self, wire: &mut Wire) -> Closed {
        let mut listener = self.app.hub.listen(self.who.user);
        let stopping = self.app.stopping.clone();
        // These are kept from one event to the next: who begins to wait anew takes a place in a queue that many share.
        let mut stopping = pin!(stopping.cancelled());
        let mut alarm = pin!(sleep_until(self.due()));
        loop {
            let mut noticed = pin!(listener.notices.recv());
            let notice = loop {
                if alarm.deadline() != self.due() {
                    alarm.as_mut().reset(self.due());
                }
                let woken = tokio::select! {
                    read = wire.read() => Woken::Read(read),
                    notice = &mut noticed => break notice,
                    event = self.followed.next() => Woken::Event(event),
                    () = &mut alarm => Woken::Clock,
                    () = &mut stopping => return Closed::Stopping,
                };
                if let Err(why) = self.step(wire, woken).await {
                    return why;
                }
            };
            if let Err(why) = Box::pin(self.notice(wire, notice)).await {
                return why;
            }
        }
    }

    async fn step(&mut self, wire: &mut Wire, woken: Woken) -> Result<(), Closed> {
        match woken {
            Woken::Read(read) => {
                self.heard = Instant::now();
                match read? {
                    // Boxed: what a question needs must not be kept by every quiet socket.
                    Some(text) => Box::pin(self.frame(wire, &text)).await,
                    None => Ok(()),
                }
            }
            Woken::Event(event) => wire.tell(&event).await,
            Woken::Clock => self.tick(wire).await,
        }
    }

    /// When the clock is to be looked at.
    fn due(&self) -> Instant {
        self.next_ping.min(self.expires)
    }

    async fn tick(&mut self, wire: &mut Wire) -> Result<(), Closed> {
        let now = Instant::now();
        if now >= self.expires {
            return Err(Closed::Unauthorized);
        }
        if now.duration_since(self.heard) >= self.app.options.socket.dead_after {
            return Err(Closed::Gone);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.app.options.socket.ping_every;
            if self.app.is_shared() {
                // Another instance may have revoked it, and not been able to say so. Boxed: what is asked of the store for it
                // must not be kept by every quiet socket.
                Box::pin(check(&self.app, &self.who)).await?;
            }
            wire.ping().await?;
        }
        Ok(())
    }

    async fn notice(
        &mut self,
        wire: &mut Wire,
        notice: Result<Notice, RecvError>,
    ) -> Result<(), Closed> {
        match notice {
            Ok(Notice::Frame(text)) => wire.pass_on(text).await,
            Ok(Notice::Revoked(session)) if session == self.who.session => {
                Err(Closed::Unauthorized)
            }
            Ok(Notice::Revoked(_)) => Ok(()),
            Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => {
                // A revocation may be among what was missed.
                check(&self.app, &self.who).await?;
                wire.tell(&ServerFrame::ConversationsChanged).await
            }
            Err(RecvError::Closed) => Err(Closed::Stopping),
        }
    }

    async fn frame(&mut self, wire: &mut Wire, text: &str) -> Result<(), Closed> {
        let frame = match crate::json::parse(text.as_bytes()) {
            Ok(frame) => frame,
            Err(problem) => return wire.tell(&ServerFrame::refused(&problem, None)).await,
        };
        if let ClientFrame::Auth { access_token } = &frame {
            self.who = admit(&self.app, wire, access_token, Some(&self.who)).await?;
            self.expires = expiry(&self.app, &self.who);
            return Ok(());
        }
        check(&self.app, &self.who).await?;
        match frame {
            ClientFrame::Auth { .. } => Ok(()),
            ClientFrame::Send {
                id,
                conversation_id,
                content,
                parent_id,
                model,
            } => {
                let question = question(conversation_id, content, &parent_id);
                self.ask(wire, id, question, model).await
            }
            ClientFrame::Regenerate {
                id,
                conversation_id,
                parent_id,
                model,
            } => {
                let question = again(&conversation_id, &parent_id);
                self.ask(wire, id, question, model).await
            }
            ClientFrame::Subscribe {
                generation_id,
                offset,
                epoch,
            } => {
                let held = Reader { epoch, offset };
                self.subscribe(wire, generation_id, held).await
            }
            ClientFrame::Unsubscribe { generation_id } => {
                if let Ok(id) = generation_id.parse() {
                    self.followed.remove(id);
                }
                Ok(())
            }
            ClientFrame::Cancel { generation_id } => {
                let stopped = match find(&self.app, &self.who, &generation_id).await {
                    Ok(generation) => generations::stop(&self.app, &generation).await,
                    Err(problem) => Err(problem),
                };
                match stopped {
                    Ok(()) => Ok(()),
                    Err(problem) => {
                        wire.tell(&ServerFrame::refused_answer(&problem, generation_id))
                            .await
                    }
                }
            }
        }
    }

    async fn ask(
        &mut self,
        wire: &mut Wire,
        id: String,
        question: Result<Question, Problem>,
        model: Option<String>,
    ) -> Result<(), Closed> {
        let asked = question.and_then(|question| {
            let key = messages::checked_key(&id)?;
            Ok(Asked {
                question,
                model,
                key: Some(key),
            })
        });
        let accepted = match asked {
            Ok(asked) => ask(&self.app, &self.who, asked).await,
            Err(problem) => Err(problem),
        };
        match accepted {
            Ok(accepted) => {
                let answer = accepted.generation_id;
                wire.tell(&ServerFrame::Accepted { id, accepted }).await?;
                self.follow_new(wire, answer).await
            }
            Err(problem) => wire.tell(&ServerFrame::refused(&problem, Some(id))).await,
        }
    }

    async fn follow_new(&mut self, wire: &mut Wire, id: GenerationId) -> Result<(), Closed> {
        match self.app.db.generation(self.who.user, id).await {
            Ok(Some(generation)) => {
                let held = Reader {
                    epoch: 0,
                    offset: 0,
                };
                self.follow(wire, &generation, held).await
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let frame = ServerFrame::refused_answer(&error.into(), id.to_string());
                wire.tell(&frame).await
            }
        }
    }

    async fn subscribe(
        &mut self,
        wire: &mut Wire,
        generation_id: String,
        held: Reader,
    ) -> Result<(), Closed> {
        match find(&self.app, &self.who, &generation_id).await {
            Ok(generation) => self.follow(wire, &generation, held).await,
            Err(problem) => {
                wire.tell(&ServerFrame::refused_answer(&problem, generation_id))
                    .await
            }
        }
    }

    async fn follow(
        &mut self,
        wire: &mut Wire,
        generation: &Generation,
        held: Reader,
    ) -> Result<(), Closed> {
        let follower = Follower::new(self.app.clone(), generation, held);
        let limit = self.app.options.socket.subscriptions;
        if self.followed.add(generation.id, follower, limit) {
            return Ok(());
        }
        let problem = Problem::too_many_followed(limit);
        let frame = ServerFrame::refused_answer(&problem, generation.id.to_string());
        wire.tell(&frame).await
    }
}

// These take no `&Session`: the streams in it may be sent between threads, not shared.

/// Whether the sign-in is good still.
async fn check(app: &App, who: &Principal) -> Result<(), Closed> {
    match app.tokens.still_good(who).await {
        Err(problem) if problem.is_unauthorized() => Err(Closed::Unauthorized),
        // The store is away: what follows will say so.
        _ => Ok(()),
    }
}

/// A question counts as a request, as it would over REST.
async fn ask(app: &App, who: &Principal, asked: Asked) -> Result<Accepted, Problem> {
    app.limits.request_of(who.user).await?;
    generations::ask(app, who.user, asked).await
}

async fn find(app: &App, who: &Principal, id: &str) -> Result<Generation, Problem> {
    let id: GenerationId = id.parse().map_err(|_| Problem::not_found())?;
    let found = app.db.generation(who.user, id).await?;
    found.ok_or_else(Problem::not_found)
}

fn expiry(app: &App, who: &Principal) -> Instant {
    Instant::now() + who.expires_at.since(app.clock.now())
}

fn question(
    conversation: Option<String>,
    content: String,
    parent: &ParentField,
) -> Result<Question, Problem> {
    let Some(conversation) = conversation else {
        return Ok(Question::NewConversation { content });
    };
    Ok(Question::Message {
        conversation: conversation.parse().map_err(|_| Problem::not_found())?,
        parent: parent.parent()?,
        content,
    })
}

fn again(conversation: &str, message: &str) -> Result<Question, Problem> {
    Ok(Question::Again {
        conversation: conversation.parse().map_err(|_| Problem::not_found())?,
        message: identifier("parent_id", message)?,
    })
}
