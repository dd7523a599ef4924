//! An endpoint of a language model on this machine, whose answers and faults are written by the test that asks it.
//!
//! It speaks HTTP/1.1 by hand, on one thread of its own, so that it costs little, can break the protocol wherever a test wants it to, and can
//! die and come back at the same address. It counts what reached it: what a client believes can then be held against what it did.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Bytes a request's head may have.
const MOST_HEAD: usize = 64 << 10;
/// Bytes a request's body may have.
const MOST_BODY: usize = 256 << 20;

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which request it is, from 0: those to `/chat/completions` are counted.
    pub number: u64,
    /// `POST`.
    pub method: String,
    /// `/v1/chat/completions`.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null if it is no JSON.
    pub body: Value,
}

impl Request {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The messages.
    pub fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map_or(&[], Vec::as_slice)
    }

    /// All texts of one message.
    pub fn text_of(message: &Value) -> String {
        match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }

    /// The text of the last message.
    pub fn prompt(&self) -> String {
        self.messages().last().map(Self::text_of).unwrap_or_default()
    }

    /// Most tokens that the answer may have.
    pub fn max_tokens(&self) -> u64 {
        self.body["max_tokens"].as_u64().unwrap_or(u64::MAX)
    }

    /// Tokens of all texts; as many as a quarter of their bytes.
    pub fn prompt_tokens(&self) -> u64 {
        let bytes: usize = self.messages().iter().map(|message| Self::text_of(message).len()).sum();
        (bytes as u64).div_ceil(4)
    }
}

/// What comes back.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    content_type: String,
    body: Body,
    /// Tokens of request and answer that it bills; those of a text are counted if this is absent.
    bills: Option<(u64, u64)>,
    says_usage: bool,
    delay: Duration,
    hangs: bool,
    cut_after: Option<usize>,
    drip: Option<(usize, Duration)>,
}

#[derive(Debug, Clone)]
enum Body {
    Text(String),
    Raw(Vec<u8>),
    /// Begins so, and never ends.
    Endless(Vec<u8>),
}

impl Reply {
    fn new(status: u16, content_type: &str, body: Body) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: content_type.to_owned(),
            body,
            bills: None,
            says_usage: true,
            delay: Duration::ZERO,
            hangs: false,
            cut_after: None,
            drip: None,
        }
    }

    /// An answer. It ends at the request's `max_tokens`, as a server's does; a token has four bytes.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(200, "application/json", Body::Text(text.into()))
    }

    /// A status with an error as servers word it; bills nothing.
    pub fn status(status: u16, message: &str) -> Self {
        Self::json(status, &json!({"error": {"message": message, "type": "error", "code": status}}))
    }

    /// A status with JSON; bills nothing.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json", body.to_string())
    }

    /// Whatever bytes; bills nothing.
    pub fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, content_type, Body::Raw(body.into()))
    }

    /// Takes the request, and nothing comes of it until the client goes away.
    pub fn hang() -> Self {
        Self { hangs: true, ..Self::text("") }
    }

    /// A body that begins so and never ends.
    pub fn endless(begin: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "application/json", Body::Endless(begin.into()))
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// After a while.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The connection is cut after so many bytes of the response, its head included.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// So many bytes at a time, with a pause between.
    #[must_use]
    pub fn drip(mut self, bytes: usize, every: Duration) -> Self {
        self.drip = Some((bytes.max(1), every));
        self
    }

    /// Bills so many tokens of request and answer, and says so.
    #[must_use]
    pub fn billing(mut self, prompt: u64, completion: u64) -> Self {
        self.bills = Some((prompt, completion));
        self
    }

    /// Whether all of it is written.
    fn is_whole(&self) -> bool {
        self.cut_after.is_none() && !matches!(self.body, Body::Endless(_))
    }

    /// Whether writing it takes no time.
    fn is_at_once(&self) -> bool {
        self.drip.is_none() && !matches!(self.body, Body::Endless(_))
    }

    /// Without `usage`, whatever it bills.
    #[must_use]
    pub fn without_usage(mut self) -> Self {
        self.says_usage = false;
        self
    }
}

/// What an endpoint counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that came.
    pub received: u64,
    /// Those that an answer was written to in full, whatever it was.
    pub answered: u64,
    /// Those that were refused because too many were under way.
    pub too_many: u64,
    /// Most that were under way at once.
    pub at_once: u64,
    /// Tokens of requests that it billed.
    pub prompt_tokens: u64,
    /// Tokens of answers that it billed.
    pub completion_tokens: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl Counts {
    /// All tokens that it billed.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "received": self.received,
            "answered": self.answered,
            "too_many": self.too_many,
            "at_once": self.at_once,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "connections": self.connections,
        })
    }
}

/// Where an endpoint listens, and how it holds up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Its port; any free one if 0.
    pub port: u16,
    /// What every answer takes at least.
    pub latency: Duration,
    /// Requests that may be under way at once: others are told 429. No limit if absent.
    pub slots: Option<u64>,
}

/// What an endpoint says to a request.
pub type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    options: Options,
    under_way: AtomicU64,
    received: AtomicU64,
    answered: AtomicU64,
    too_many: AtomicU64,
    at_once: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    connections: AtomicU64,
}

impl Shared {
    fn counts(&self) -> Counts {
        Counts {
            received: self.received.load(Ordering::SeqCst),
            answered: self.answered.load(Ordering::SeqCst),
            too_many: self.too_many.load(Ordering::SeqCst),
            at_once: self.at_once.load(Ordering::SeqCst),
            prompt_tokens: self.prompt_tokens.load(Ordering::SeqCst),
            completion_tokens: self.completion_tokens.load(Ordering::SeqCst),
            connections: self.connections.load(Ordering::SeqCst),
        }
    }
}

/// An endpoint that is running, or was. Dropped, it ends.
pub struct Endpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Endpoint {
    /// On any free port, with no limits.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Options::default(), script)
    }

    /// With limits.
    ///
    /// # Panics
    /// If its port is taken.
    pub fn with(options: Options, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            options,
            under_way: AtomicU64::new(0),
            received: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            too_many: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let (address, running) = run(&shared, options.port).expect("a free port on 127.0.0.1");
        Self { shared, address, running: Mutex::new(Some(running)) }
    }

    /// What stands as `endpoint` in a pipeline file.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it counted up to now.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Dies: connections are cut, and none are taken any more. What it counted stays.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            _ = thread.join();
        }
    }

    /// Comes back at the same address.
    ///
    /// # Panics
    /// If the port is taken by now.
    pub fn start_again(&self) {
        self.stop();
        let (_, running) = run(&self.shared, self.address.port()).expect("the port that it had");
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop();
    }
}

type Running = (oneshot::Sender<()>, JoinHandle<()>);

fn run(shared: &Arc<Shared>, port: u16) -> io::Result<(SocketAddr, Running)> {
    // Bound here, so that it takes connections as soon as this returns.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let shared = Arc::clone(shared);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("endpoint".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            tokio::select! {
                () = listen(listener, &shared) => {}
                _ = stopped => {}
            }
        });
        // Dropped here with all its connections.
    })?;
    Ok((address, (stop, thread)))
}

async fn listen(listener: TcpListener, shared: &Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(shared);
                tokio::spawn(async move {
                    // An error is the client that went away.
                    _ = serve(stream, &shared).await;
                });
            }
            // No more files: those that are there end.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// All requests of one connection.
async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 << 10);
    let mut response = Vec::with_capacity(4 << 10);
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let (reply, slot) = take(request, shared);
        if !reply.delay.is_zero() || reply.hangs {
            let wait = async {
                match reply.hangs {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(reply.delay).await,
                }
            };
            let mut byte = [0];
            tokio::select! {
                () = wait => {}
                // Ready as soon as the other side closes; it sends nothing while it waits.
                gone = stream.peek(&mut byte) => if gone? == 0 { return Ok(()) },
            }
        }
        // Before the last byte: who has it may look at the counts, and may ask again.
        let slot = slot.filter(|_| !reply.is_at_once());
        let whole = u64::from(reply.is_whole());
        shared.answered.fetch_add(whole, Ordering::SeqCst);
        let written = write_reply(&mut stream, &reply, &mut response).await;
        drop(slot);
        if written.is_err() {
            shared.answered.fetch_sub(whole, Ordering::SeqCst);
        }
        if !written? {
            return Ok(());
        }
    }
    Ok(())
}

/// One of the requests under way.
struct Slot<'a>(&'a AtomicU64);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What comes back of a request; what it bills is booked.
fn take(mut request: Request, shared: &Shared) -> (Reply, Option<Slot<'_>>) {
    if !request.path.ends_with("/chat/completions") {
        return (beside(&request, shared), None);
    }
    request.number = shared.received.fetch_add(1, Ordering::SeqCst);
    let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    let slot = Slot(&shared.under_way);
    if shared.options.slots.is_some_and(|slots| under_way > slots) {
        shared.too_many.fetch_add(1, Ordering::SeqCst);
        return (Reply::status(429, "too many requests at once"), Some(slot));
    }
    shared.at_once.fetch_max(under_way, Ordering::SeqCst);
    let mut reply = (shared.script)(&request);
    reply.delay = reply.delay.max(shared.options.latency);
    if let Body::Text(text) = &mut reply.body {
        // Booked before it is sent: a server that worked is paid, whoever hung up.
        let most = request.max_tokens();
        let wanted = (text.len() as u64).div_ceil(4);
        let mut finish = "stop";
        if wanted > most && reply.bills.is_none() {
            finish = "length";
            text.truncate(text.floor_char_boundary(usize::try_from(most.saturating_mul(4)).unwrap_or(usize::MAX)));
        }
        let (prompt, completion) = reply.bills.unwrap_or_else(|| (request.prompt_tokens(), wanted.min(most)));
        shared.prompt_tokens.fetch_add(prompt, Ordering::SeqCst);
        shared.completion_tokens.fetch_add(completion, Ordering::SeqCst);
        let model = &request.body["model"];
        let mut answer = json!({
            "id": format!("chatcmpl-{}", request.number),
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        });
        if reply.says_usage {
            let total = prompt + completion;
            answer["usage"] = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
        }
        reply.body = Body::Raw(serde_json::to_vec(&answer).unwrap_or_default());
    } else if let Some((prompt, completion)) = reply.bills {
        shared.prompt_tokens.fetch_add(prompt, Ordering::SeqCst);
        shared.completion_tokens.fetch_add(completion, Ordering::SeqCst);
    }
    (reply, Some(slot))
}

/// What is no request to the model.
fn beside(request: &Request, shared: &Shared) -> Reply {
    match request.path.as_str() {
        "/counts" => Reply::json(200, &shared.counts().json()),
        "/health" => Reply::json(200, &json!({"status": "ok"})),
        path if path.ends_with("/models") => Reply::json(200, &json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]})),
        path => Reply::status(404, &format!("there is no {path}")),
    }
}

/// The next request of a connection; `None` at its end.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let head_end = loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > MOST_HEAD || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut request = Request { number: 0, method, path, headers, body: Value::Null };
    let length = request.header("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    if length > MOST_BODY {
        return Ok(None);
    }
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let all = head_end + 4 + length;
    buffer.reserve(all.saturating_sub(buffer.len()));
    while buffer.len() < all {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    request.body = serde_json::from_slice(&buffer[head_end + 4..all]).unwrap_or_default();
    buffer.drain(..all);
    Ok(Some(request))
}

/// Writes a reply; whether the connection goes on after it.
async fn write_reply(stream: &mut TcpStream, reply: &Reply, response: &mut Vec<u8>) -> io::Result<bool> {
    response.clear();
    response.extend_from_slice(format!("HTTP/1.1 {} Scripted\r\ncontent-type: {}\r\n", reply.status, reply.content_type).as_bytes());
    for (name, value) in &reply.headers {
        response.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    match &reply.body {
        Body::Text(_) => {}
        Body::Raw(body) => {
            response.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            response.extend_from_slice(body);
        }
        Body::Endless(begin) => {
            response.extend_from_slice(b"connection: close\r\n\r\n");
            response.extend_from_slice(begin);
        }
    }
    let end = reply.cut_after.unwrap_or(response.len()).min(response.len());
    match reply.drip {
        None => stream.write_all(&response[..end]).await?,
        Some((bytes, every)) => {
            for piece in response[..end].chunks(bytes) {
                stream.write_all(piece).await?;
                tokio::time::sleep(every).await;
            }
        }
    }
    if matches!(reply.body, Body::Endless(_)) && reply.cut_after.is_none() {
        let more = [b' '; 16 << 10];
        loop {
            stream.write_all(&more).await?;
        }
    }
    Ok(reply.cut_after.is_none())
}

/// Splits the text behind the last `Context:` of a prompt, or all of it, in two halves of as many characters, and asks a fixed question: the
/// answer to a request for a question and a split.
pub fn halving(request: &Request) -> Reply {
    let prompt = request.prompt();
    let context = prompt.rsplit_once("Context:").map_or(prompt.as_str(), |(_, context)| context).trim();
    let half = context.chars().count().div_ceil(2);
    let cut = context.char_indices().nth(half).map_or(context.len(), |(at, _)| at);
    let answer = json!({"question": "What does this say?", "context_1": &context[..cut], "context_2": &context[cut..]});
    Reply::text(answer.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// What comes back on a connection of its own, until the other side closes or a whole reply is there.
    fn say(stream: &mut TcpStream, body: &str) -> String {
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
        let mut got = Vec::new();
        let mut block = [0; 4096];
        loop {
            let read = stream.read(&mut block).unwrap_or(0);
            got.extend_from_slice(&block[..read]);
            let text = String::from_utf8_lossy(&got).into_owned();
            let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|n| n.parse().ok());
                length.is_some_and(|length: usize| body.len() >= length)
            });
            if read == 0 || whole {
                return text;
            }
        }
    }

    #[test]
    fn it_answers_and_counts_on_one_connection() {
        let endpoint = Endpoint::start(|request| Reply::text(format!("{} {}", request.number, request.prompt())));
        let mut stream = TcpStream::connect(endpoint.address).expect("a connection");
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "12345678"}]}).to_string();
        assert!(say(&mut stream, &body).contains(r#""content":"0 12345678""#));
        let second = say(&mut stream, &body);
        assert!(second.contains(r#""content":"1 12345678""#) && second.contains(r#""finish_reason":"stop""#), "{second}");
        let counts = endpoint.counts();
        let wanted = Counts { received: 2, answered: 2, at_once: 1, prompt_tokens: 4, completion_tokens: 6, connections: 1, too_many: 0 };
        assert_eq!(counts, wanted);
    }

    #[test]
    fn an_answer_ends_where_its_tokens_do() {
        let endpoint = Endpoint::start(|_| Reply::text("123456789"));
        let mut stream = TcpStream::connect(endpoint.address).expect("a connection");
        let answer = say(&mut stream, r#"{"max_tokens": 2, "messages": []}"#);
        assert!(answer.contains(r#""content":"12345678""#) && answer.contains(r#""finish_reason":"length""#), "{answer}");
        assert_eq!(endpoint.counts().completion_tokens, 2);
    }

    #[test]
    fn it_dies_and_comes_back_at_the_same_address() {
        let endpoint = Endpoint::start(|_| Reply::hang());
        let mut stream = TcpStream::connect(endpoint.address).expect("a connection");
        stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").expect("sent");
        endpoint.stop();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0, "the connection is cut");
        assert!(TcpStream::connect(endpoint.address).is_err());
        endpoint.start_again();
        assert!(TcpStream::connect(endpoint.address).is_ok());
    }

    #[test]
    fn a_reply_is_cut_where_the_script_says() {
        let endpoint = Endpoint::start(|_| Reply::text("a long answer").cut_after(40));
        let mut stream = TcpStream::connect(endpoint.address).expect("a connection");
        assert_eq!(say(&mut stream, "{}").len(), 40);
    }

    #[test]
    fn one_more_than_its_slots_is_refused() {
        let endpoint = Endpoint::with(Options { slots: Some(0), ..Options::default() }, |_| Reply::text("x"));
        let mut stream = TcpStream::connect(endpoint.address).expect("a connection");
        assert!(say(&mut stream, "{}").starts_with("HTTP/1.1 429 "));
        assert_eq!(endpoint.counts().too_many, 1);
    }

    #[test]
    fn halves_are_as_long_as_each_other() {
        let body = json!({"messages": [{"role": "user", "content": "Split this.\nContext: 日本語の文字"}]});
        let request = Request { number: 0, method: String::new(), path: String::new(), headers: Vec::new(), body };
        let Body::Text(answer) = halving(&request).body else { panic!("a text") };
        assert_eq!(answer, r#"{"question":"What does this say?","context_1":"日本語","context_2":"の文字"}"#);
    }
}
