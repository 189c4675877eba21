//! A TCP proxy before an engine that spoils connections: what networks and dying engines do to a gateway.
//!
//! It knows nothing of answers: each connection gets a [`Spell`], from a seeded plan or always the same one.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    /// Bytes from the engine that pass before the fault; with 0 the engine is never asked.
    pub(crate) after: usize,
    pub(crate) fault: Fault,
    /// Whether the bytes that pass come a few at a time.
    pub(crate) slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The connection is reset.
    Reset,
    /// Nothing comes any more.
    Hang,
    /// Bytes come that are no HTTP, no UTF-8 and no JSON, then the end.
    Garbage,
    /// The request is answered with this status and these header lines, each with its line ending. Only where the engine is
    /// never asked.
    Status(u16, &'static str),
}

/// Statuses of the seeded plan.
const STATUSES: [u16; 5] = [400, 404, 429, 500, 503];
/// Most bytes that pass in the seeded plan: some twenty short answers.
const AFTER_MAX: usize = 16_000;

impl Spell {
    pub(crate) fn at_once(fault: Fault) -> Self {
        Self {
            after: 0,
            fault,
            slow: false,
        }
    }

    /// Everything passes.
    pub(crate) fn never() -> Self {
        Self {
            after: usize::MAX,
            ..Self::at_once(Fault::Reset)
        }
    }

    fn draw(random: &mut StdRng) -> Self {
        let at_once = random.random_bool(0.25);
        let status = STATUSES[random.random_range(0..STATUSES.len())];
        let fault = match random.random_range(0..if at_once { 5 } else { 3 }) {
            0 => Fault::Reset,
            1 => Fault::Hang,
            2 => Fault::Garbage,
            _ => Fault::Status(status, ""),
        };
        Self {
            after: if at_once {
                0
            } else {
                random.random_range(1..AFTER_MAX)
            },
            fault,
            slow: random.random_bool(0.1),
        }
    }
}

/// A running proxy; it ends when this is dropped.
pub(crate) struct FaultProxy {
    pub(crate) url: String,
    /// What befell connections so far.
    befallen: Arc<Mutex<Vec<Spell>>>,
    open: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// Spoils every connection as the seed says.
    pub(crate) async fn seeded(engine: &str, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self::start(engine, move || Spell::draw(&mut random)).await
    }

    /// Spoils every connection in the same way.
    pub(crate) async fn always(engine: &str, spell: Spell) -> Self {
        Self::start(engine, move || spell).await
    }

    async fn start(engine: &str, mut next: impl FnMut() -> Spell + Send + 'static) -> Self {
        let engine: SocketAddr = engine.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let befallen = Arc::new(Mutex::new(Vec::new()));
        let (opened, open) = watch::channel(0);
        let (noted, opened) = (Arc::clone(&befallen), Arc::new(opened));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (spell, noted, opened) = (next(), Arc::clone(&noted), Arc::clone(&opened));
                opened.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    let spoiled = spoil(client, engine, spell).await;
                    if matches!(spoiled, Ok(true)) {
                        noted.lock().unwrap().push(spell);
                    }
                    opened.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            url,
            befallen,
            open,
            task,
        }
    }

    /// Connections that met this fault, at once or later.
    pub(crate) fn met(&self, at_once: bool, like: impl Fn(Fault) -> bool) -> usize {
        let befallen = self.befallen.lock().unwrap();
        let met = |spell: &&Spell| (spell.after == 0) == at_once && like(spell.fault);
        befallen.iter().filter(met).count()
    }

    /// Waits until this many connections are open.
    pub(crate) async fn until_open(&self, count: usize) {
        let mut open = self.open.clone();
        let reached = open.wait_for(|open| *open == count);
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .unwrap()
            .unwrap();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the fault came before the client or the engine ended the connection.
async fn spoil(mut client: TcpStream, engine: SocketAddr, spell: Spell) -> io::Result<bool> {
    client.set_nodelay(true)?;
    if spell.after > 0 {
        let mut engine = TcpStream::connect(engine).await?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_engine, mut to_engine) = engine.split();
        let cut = tokio::select! {
            cut = pass(&mut from_engine, &mut to_client, spell) => cut?,
            asked = tokio::io::copy(&mut from_client, &mut to_engine) => {
                asked?;
                false
            }
        };
        if !cut {
            return Ok(false);
        }
    }
    match spell.fault {
        Fault::Reset => client.set_zero_linger()?,
        Fault::Hang => while client.read(&mut [0; 4096]).await? > 0 {},
        Fault::Garbage => client.write_all(&[0xff; 4096]).await?,
        Fault::Status(status, head) => {
            read_request(&mut client).await?;
            let body = r#"{"error": {"message": "no", "type": "x"}}"#;
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{head}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            client.write_all(answer.as_bytes()).await?;
        }
    }
    Ok(true)
}

/// Passes on what the engine sends until the spell ends it; false when the engine ended first.
async fn pass(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, spell: Spell) -> io::Result<bool> {
    let mut left = spell.after;
    let mut buffer = vec![0; 16 << 10];
    let size = if spell.slow { 64 } else { buffer.len() };
    while left > 0 {
        let read = from.read(&mut buffer[..size.min(left)]).await?;
        if read == 0 {
            return Ok(false);
        }
        to.write_all(&buffer[..read]).await?;
        left -= read;
        if spell.slow {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(true)
}

/// Reads one request with its body.
async fn read_request(client: &mut TcpStream) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        if client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
            return Ok(());
        }
    }
}
