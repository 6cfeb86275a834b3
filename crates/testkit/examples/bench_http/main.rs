//! The other two sides of what is measured (`bench/balancer.py`, `bench/chunks.py`): nodes that cost next to nothing, and loads
//! that wrk cannot make. One thread, HTTP/1.1 and WebSockets written by hand, so that what lies between is what is measured.
//!
//! `bench_http ORDER`, where ORDER is one JSON object, see [`Order`]. Results are lines of JSON on standard output.

mod answers;
mod hold;
mod node;
mod rate;
mod rendered;
mod request;
mod response;
mod socket;
mod stamped;
mod streams;

use serde::Deserialize;
use std::{error::Error, io::Write as _, net::IpAddr, net::Ipv4Addr, net::SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// What ends a run.
type Failure = Box<dyn Error + Send + Sync>;

/// What this process is to do.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    /// Plays nodes on these addresses until it is ended.
    Node(node::Options),
    /// Holds many streamed answers at once and checks each.
    Streams(streams::Options),
    /// Sends small requests at a constant rate, however slow the answers are, and measures the time to the first byte.
    Rate(rate::Options),
    /// Keeps connections: idle, then with an answered request behind them, then with one that waits.
    Hold(hold::Options),
    /// Asks questions of Jarvis and measures how long each chunk of the answers takes from the node to the reader.
    Answers(answers::Options),
}

/// Where a load goes and what it asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    /// The proxy, or a node.
    to: SocketAddr,
    dialect: rendered::Dialect,
    /// See [`rendered::Plan`].
    model: String,
}

impl Target {
    /// One chat request, the same bytes each time.
    fn request(&self, stream: bool) -> Vec<u8> {
        let body = format!(
            r#"{{"model":"{}","messages":[{{"role":"user","content":"Good morning Jarvis, how are you today?"}}],"stream":{stream}}}"#,
            self.model
        );
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.dialect.path(),
            self.to,
            body.len()
        )
        .into_bytes()
    }

    /// A connection from one of eight loopback addresses: one address has too few ports for the largest load.
    async fn connect(&self, number: usize) -> Result<TcpStream, Failure> {
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(number % 8)? + 2;
        socket.bind(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)),
            0,
        ))?;
        let stream = socket.connect(self.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Prints a result for the process that gave the order.
fn report(line: &serde_json::Value) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let text = std::env::args()
        .nth(1)
        .ok_or("usage: bench_http ORDER, one JSON object")?;
    match serde_json::from_str(&text)? {
        Order::Node(options) => node::run(options).await,
        Order::Streams(options) => streams::run(options).await,
        Order::Rate(options) => rate::run(options).await,
        Order::Hold(options) => hold::run(options).await,
        Order::Answers(options) => answers::run(options).await,
    }
}
