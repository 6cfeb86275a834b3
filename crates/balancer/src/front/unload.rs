//! A request that has a model unloaded. An Ollama's clients mean the model, not one node's copy: it goes to every node that
//! has it in memory, and is no work for a slot.

use super::{
    Front,
    infer::{Forwarded, forwarded},
    refusal::Refusal,
};
use crate::{
    dispatch::Server,
    forward::{Answer, AnswerBody, Call, Unanswered},
    node::Node,
    transport::{TransportError, read},
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};

/// The longest answer of a node, in bytes.
const LONGEST: usize = 64 << 10;

/// Unloads the model everywhere. The answer is that of a node that could not, or else of any.
pub(super) async fn everywhere(front: &Front, call: &Call<'_>) -> Forwarded {
    let balancer = &front.balancer;
    balancer.look_at_those_up().await;
    let nodes = balancer.shared.pool.nodes();
    let having = nodes.iter().filter(|node| node.has_loaded(&call.ask.model));
    let answers = join_all(having.map(|node| on_node(node, call))).await;
    // What they have in memory has changed.
    balancer.look_at_those_up().await;
    let failed = |answer: &Result<Answer, _>| !matches!(answer, Ok(answer) if answer.head.status.is_success());
    let at = answers.iter().position(failed).unwrap_or_default();
    match answers.into_iter().nth(at) {
        Some(Ok(answer)) => Ok((answer, call.ask.dialect)),
        Some(Err(failed)) => Err(Refusal::unanswered(
            &balancer.shared,
            &call.ask.model,
            &failed,
        )),
        // As it is everywhere: one node says so.
        None => forwarded(front, call, None).await,
    }
}

async fn on_node(node: &Arc<Node>, call: &Call<'_>) -> Result<Answer, Unanswered> {
    let failed = |source: TransportError| Unanswered::Failed {
        node: node.name.clone(),
        source,
    };
    let request = call.with_body(call.ask.body.clone());
    let (head, body) = node.send(request).await.map_err(failed)?.into_parts();
    let bytes = read(body, LONGEST).await.map_err(failed)?;
    Ok(Answer {
        head,
        body: AnswerBody::Whole(bytes),
        server: Some(Server {
            node: Arc::clone(node),
            reason: "has_loaded",
            waited: Duration::ZERO,
        }),
    })
}
