//! Connections that are kept, in three steps of the caller: idle, idle after an answer, waiting for an answer.

use crate::{Failure, Target, report, response::Response};
use serde::Deserialize;
use serde_json::json;
use std::io::{ErrorKind, Read as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    target: Target,
    connections: usize,
}

/// Each line on standard input asks for the next step; each step ends with a line on standard output. The last one says
/// how many of the waiting requests were answered all the same.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let target = options.target;
    // Nothing happens between the steps, so this thread may wait for the order.
    let mut orders = std::io::stdin().lines();
    let mut connections = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        connections.push(target.connect(number).await?);
    }
    report(&json!({"idle": connections.len()}))?;
    orders.next().transpose()?;
    let request = target.request(false);
    for connection in &mut connections {
        connection.write_all(&request).await?;
        answer(connection).await?;
    }
    report(&json!({"answered": connections.len()}))?;
    orders.next().transpose()?;
    for connection in &mut connections {
        connection.write_all(&request).await?;
    }
    report(&json!({"waiting": connections.len()}))?;
    orders.next().transpose()?;
    let mut early = Vec::new();
    for connection in connections {
        let mut start = [0; 512];
        match connection.into_std()?.read(&mut start) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => early.push(error.to_string()),
            Ok(size) => early.push(String::from_utf8_lossy(&start[..size]).into_owned()),
        }
    }
    report(&json!({"early": early.len(), "first": early.first()}))
}

async fn answer(connection: &mut TcpStream) -> Result<(), Failure> {
    let (mut response, mut buffer) = (Response::default(), [0; 4096]);
    while !response.whole() {
        match connection.read(&mut buffer).await? {
            0 => return Err("the connection ended".into()),
            size => response.feed(&buffer[..size])?,
        }
    }
    Ok(())
}
