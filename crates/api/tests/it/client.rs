//! Clients: REST, event streams and sockets, with nothing hidden.

use crate::server::PASSWORD;
use axum::body::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::CloseFrame},
};

/// Nothing here takes long: what has not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer to one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Asserts a problem with this status and code, in due form.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        for field in ["type", "title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}: {problem}"
            );
        }
        problem
    }

    /// The refresh token that was set, and the cookie it came in.
    pub(crate) fn cookie(&self) -> Option<(String, String)> {
        let cookie = self.headers.get(header::SET_COOKIE)?.to_str().unwrap();
        let value = cookie.strip_prefix("jarvis_refresh=").unwrap();
        let token = value.split(';').next().unwrap();
        Some((token.to_owned(), cookie.to_owned()))
    }
}

/// A client of the REST interface.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    pool: Pool<HttpConnector, Full<Bytes>>,
    pub(crate) token: Option<String>,
    pub(crate) refresh: Option<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            pool: Pool::builder(TokioExecutor::new()).build_http(),
            token: None,
            refresh: None,
        }
    }

    /// The same person at another server.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            token: self.token.clone(),
            refresh: self.refresh.clone(),
            ..Self::new(address)
        }
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().expect("signed in")
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> hyper::Response<Incoming> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).unwrap());
        }
        timeout(PATIENCE, self.pool.request(request))
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        }
    }

    async fn with_json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.request(method, path, &kind, body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.with_json(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.with_json(Method::PATCH, path, body).await
    }

    /// Makes an account and keeps what it is given.
    pub(crate) async fn register(&mut self, email: &str) {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = self.post("/api/v1/auth/register", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.keep(&answer);
    }

    /// Signs in; the answer.
    pub(crate) async fn login(&mut self, email: &str) {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = self.post("/api/v1/auth/login", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.keep(&answer);
    }

    /// Uses the refresh token; keeps what it is given.
    pub(crate) async fn renew(&mut self) -> Answer {
        let answer = self.cookie_post("/api/v1/auth/refresh").await;
        if answer.status == 200 {
            self.keep(&answer);
        }
        answer
    }

    pub(crate) async fn cookie_post(&self, path: &str) -> Answer {
        let cookie = format!(
            "other=1; jarvis_refresh={}",
            self.refresh.as_deref().unwrap()
        );
        self.request(Method::POST, path, &[("cookie", &cookie)], "")
            .await
    }

    fn keep(&mut self, answer: &Answer) {
        self.token = Some(answer.json()["access_token"].as_str().unwrap().to_owned());
        self.refresh = Some(answer.cookie().unwrap().0);
    }

    /// A new conversation's path.
    pub(crate) async fn conversation(&self) -> String {
        let made = self.post("/api/v1/conversations", &json!({})).await.ok();
        format!("/api/v1/conversations/{}", made["id"].as_str().unwrap())
    }

    /// Sends a message; what was accepted.
    pub(crate) async fn send(&self, conversation: &str, content: &str) -> Value {
        let path = format!("{conversation}/messages");
        let answer = self.post(&path, &json!({"content": content})).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    }

    /// Follows an answer.
    pub(crate) async fn events(&self, generation: &str, last: Option<&str>) -> Events {
        let headers: Vec<_> = last.iter().map(|last| ("last-event-id", *last)).collect();
        let path = format!("/api/v1/generations/{generation}/events");
        let response = self.open(Method::GET, &path, &headers, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Events {
            body: response.into_body(),
            unread: Vec::new(),
        }
    }

    /// Waits until an answer has ended; the generation.
    pub(crate) async fn ended(&self, generation: &str) -> Value {
        let mut events = self.events(generation, None).await;
        while events.next().await.is_some() {}
        self.get(&format!("/api/v1/generations/{generation}"))
            .await
            .ok()
    }

    /// The messages of a conversation.
    pub(crate) async fn messages(&self, conversation: &str) -> Vec<Value> {
        let page = self
            .get(&format!("{conversation}/messages?limit=200"))
            .await
            .ok();
        page["items"].as_array().unwrap().clone()
    }
}

/// An event stream.
pub(crate) struct Events {
    body: Incoming,
    unread: Vec<u8>,
}

/// One event: its name, its identifier and its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Events {
    /// The next event; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<SseEvent> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let event = read_event(std::str::from_utf8(&block).unwrap());
                if event.is_some() {
                    return event;
                }
            }
            let frame = timeout(PATIENCE, self.body.frame())
                .await
                .expect("an event in time")?;
            // A server that was killed breaks the stream off.
            let data = frame.ok()?.into_data().ok()?;
            self.unread.extend_from_slice(&data);
        }
    }

    /// The text of all deltas up to the last event, and that event.
    pub(crate) async fn rest(&mut self, held: &str) -> (String, Option<SseEvent>) {
        let mut text = held.to_owned();
        let mut last = None;
        while let Some(event) = self.next().await {
            apply(&mut text, &event.data);
            last = Some(event);
        }
        (text, last)
    }
}

fn read_event(block: &str) -> Option<SseEvent> {
    let field = |name: &str| {
        let found = block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.map(str::to_owned)
    };
    Some(SseEvent {
        name: field("event")?,
        id: field("id").unwrap_or_default(),
        data: serde_json::from_str(&field("data")?).unwrap(),
    })
}

/// What a careful client does with an event: text goes where its offset says, with nothing between and nothing twice.
#[track_caller]
pub(crate) fn apply(text: &mut String, event: &Value) {
    match event["type"].as_str().unwrap() {
        "delta" => {
            assert_eq!(event["offset"], text.len(), "a hole or an overlap: {event}");
            text.push_str(event["text"].as_str().unwrap());
        }
        "resync" => {
            assert_eq!(event["offset"], 0);
            assert_ne!(event["epoch"], 0, "nobody's text: {event}");
            event["text"].as_str().unwrap().clone_into(text);
        }
        "done" => assert_eq!(event["offset"], text.len(), "{event}"),
        _ => {}
    }
}

/// A WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_from(address, None).await.unwrap()
    }

    /// A socket from a page of `origin`; the status where the server refuses.
    pub(crate) async fn open_from(
        address: SocketAddr,
        origin: Option<&str>,
    ) -> Result<Self, StatusCode> {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert(header::ORIGIN, origin.parse().unwrap());
        }
        let tcp = TcpStream::connect(address).await.unwrap();
        match client_async(request, tcp).await {
            Ok((stream, _)) => Ok(Self { stream }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn authenticate(&mut self, token: &str) -> Value {
        self.say(&json!({"type": "auth", "access_token": token}))
            .await;
        self.hear("ready").await
    }

    pub(crate) async fn say(&mut self, frame: &Value) {
        self.send(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.stream.send(message).await.unwrap();
    }

    /// Raw access to the connection beneath.
    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// The next frame, or the close code at the end.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match timeout(PATIENCE, self.stream.next())
                .await
                .expect("a frame in time")
            {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.as_ref().map(code)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Skips to the next frame of this type.
    pub(crate) async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let frame = self
                .next()
                .await
                .unwrap_or_else(|code| panic!("closed with {code:?} before {kind}"));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Reads to the end; the close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let end = async {
            loop {
                if let Err(code) = self.next().await {
                    return code;
                }
            }
        };
        // Pings may come for ever.
        timeout(PATIENCE, end).await.expect("an end in time")
    }

    /// Follows an answer to its end: the text, and the last event.
    pub(crate) async fn follow(&mut self, generation: &str, held: &str) -> (String, Value) {
        let mut text = held.to_owned();
        loop {
            let frame = self.next().await.unwrap();
            if frame["generation_id"] != generation || frame["type"] == "accepted" {
                continue;
            }
            apply(&mut text, &frame);
            if matches!(frame["type"].as_str(), Some("done" | "interrupted")) {
                return (text, frame);
            }
        }
    }
}

fn code(frame: &CloseFrame) -> u16 {
    frame.code.into()
}
