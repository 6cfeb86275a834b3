//! Going on with an answer on another node: finding one, asking it in the way that is right for it.

use super::{Answer, AnswerBody, Relay, Unanswered, blame, head};
use crate::{
    ask,
    dispatch::{self, Lease, NoNode, Places, Wanted},
    metrics,
    resume::{Ask, Dialect, Origin, Spent, Splice, Step, Transcript, Why},
    shared::Shared,
    transport::{TransportError, read},
    upstream::Outgoing,
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

/// Why an answer could not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Gone {
    /// It is switched off.
    #[error("continuing is switched off")]
    Off,
    /// It would not be right.
    #[error("{0}")]
    Wrong(Why),
    /// No other node can.
    #[error("no other node can continue it")]
    NoNode(NoNode),
    /// Others were tried and failed.
    #[error("the nodes that were tried instead failed too")]
    Failed,
}

/// An answer that goes on.
pub(crate) enum WentOn {
    /// On another node.
    Stream {
        lease: Box<Lease>,
        splice: Box<Splice>,
    },
    /// There was nothing left but its end.
    End(Bytes),
}

/// Nodes that are tried for one seam.
const ATTEMPTS: usize = 3;
/// A rendered prompt is read up to here.
const MAX_PROMPT: usize = 64 << 20;

/// Finds a node that goes on with what `transcript` holds. Gives the transcript back.
pub(super) async fn go_on(
    shared: Arc<Shared>,
    asked: Arc<ask::Ask>,
    mut transcript: Transcript,
    wanted: Wanted,
    spent: Spent,
) -> (Transcript, Result<WentOn, Gone>) {
    let went_on = search(&shared, &asked, &mut transcript, wanted, spent, None).await;
    match &went_on {
        Ok(_) => metrics::resumed("resumed"),
        Err(Gone::Off) => metrics::resumed("off"),
        Err(Gone::Wrong(why)) => metrics::resumed(why.label()),
        Err(Gone::NoNode(_)) => metrics::resumed("no_node"),
        Err(Gone::Failed) => metrics::resumed("failed"),
    }
    (transcript, went_on)
}

/// Opens an answer of which the beginning exists already.
pub(super) async fn open(
    shared: &Arc<Shared>,
    asked: &Arc<ask::Ask>,
    mut transcript: Transcript,
    places: Option<&Places>,
) -> Result<Answer, Unanswered> {
    let wanted = Wanted {
        resumes: true,
        ..Wanted::default()
    };
    let spent = Spent::default();
    let went_on = search(shared, asked, &mut transcript, wanted, spent, places).await;
    let went_on = went_on.map_err(|gone| {
        Unanswered::NoNode(match gone {
            Gone::NoNode(none) => none,
            Gone::Off | Gone::Wrong(_) => NoNode::NotResumable,
            Gone::Failed => NoNode::Unavailable,
        })
    })?;
    let server = match &went_on {
        WentOn::Stream { lease, .. } => Some(lease.server()),
        WentOn::End(_) => None,
    };
    let mut head = head(StatusCode::OK);
    head.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    let relay = Relay::going_on(shared, asked, transcript, went_on);
    Ok(Answer {
        head,
        body: AnswerBody::Stream(Box::new(relay)),
        server,
    })
}

async fn search(
    shared: &Arc<Shared>,
    asked: &ask::Ask,
    transcript: &mut Transcript,
    mut wanted: Wanted,
    spent: Spent,
    places: Option<&Places>,
) -> Result<WentOn, Gone> {
    if !shared.options.resume {
        return Err(Gone::Off);
    }
    let origin = Origin::new(transcript.dialect(), &asked.body).map_err(Gone::Wrong)?;
    origin.resumable(transcript).map_err(Gone::Wrong)?;
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        let mut lease = match dispatch::acquire(shared, asked, &wanted, places).await {
            Ok(lease) => lease,
            Err(none) => return Err(failed.unwrap_or(Gone::NoNode(none))),
        };
        wanted.tried.push(lease.node.id);
        let ways = shared.find_out(&lease.node, &asked.model).await;
        let ways = ways.unwrap_or_default();
        let step = match origin.continuation(ways, transcript) {
            Ok(step) => step,
            Err(why) => {
                lease.refuse();
                failed = Some(Gone::Wrong(why));
                continue;
            }
        };
        let begun = match step {
            Step::End(bytes) => {
                lease.refuse();
                return Ok(WentOn::End(bytes));
            }
            Step::Ask(ask) => ask_node(shared, &mut lease, &ask).await,
            Step::Render { path, body } => {
                let request = Outgoing::json(path, body);
                render(shared, &mut lease, request, &origin, transcript).await
            }
        };
        match begun {
            Ok(answers) => {
                let splice = Splice::new(&origin, transcript, answers, spent);
                return Ok(WentOn::Stream {
                    lease,
                    splice: Box::new(splice),
                });
            }
            Err(Refused::Wrong(why)) => {
                lease.refuse();
                failed = Some(Gone::Wrong(why));
            }
            Err(Refused::Lost(error)) => {
                blame(lease, &error);
                failed = Some(Gone::Failed);
            }
        }
    }
    Err(failed.unwrap_or(Gone::Failed))
}

enum Refused {
    Wrong(Why),
    Lost(TransportError),
}

/// Has the node go on after the prompt that it renders. Gives the dialect that it answers in.
async fn render(
    shared: &Shared,
    lease: &mut Lease,
    request: Outgoing<'_>,
    origin: &Origin,
    transcript: &Transcript,
) -> Result<Dialect, Refused> {
    post(shared, lease, request).await?;
    let prompt = read(&mut lease.line, MAX_PROMPT).await;
    let ask = origin
        .rendered(&prompt.map_err(Refused::Lost)?, transcript)
        .map_err(Refused::Wrong)?;
    ask_node(shared, lease, &ask).await
}

async fn ask_node(shared: &Shared, lease: &mut Lease, ask: &Ask) -> Result<Dialect, Refused> {
    post(shared, lease, Outgoing::json(ask.path, ask.body.clone())).await?;
    Ok(ask.answers)
}

/// Sends a request; anything but 200 is a failure.
async fn post(shared: &Shared, lease: &mut Lease, request: Outgoing<'_>) -> Result<(), Refused> {
    let limit = shared.options.first_token_timeout;
    let head = lease.ask(request, limit).await.map_err(Refused::Lost)?;
    if head.status != StatusCode::OK {
        return Err(Refused::Lost(TransportError::Status(head.status)));
    }
    Ok(())
}
