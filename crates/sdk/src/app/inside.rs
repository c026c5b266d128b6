//! Go into an app's container: run a program there, carry files, connect to a port.

use super::{
    Apps, RUNNING,
    host::{HostError, hear, within},
    now_ms,
};
use crate::fault::Fault;
use commonware_runtime::Sink;
use hodei_ledger::wire::send;
use hodei_types::{
    abi::ILeases::Lease,
    app::{
        Seal,
        wire::{Answer, CHUNK_BYTES_MAX, ENTER_BYTES_MAX, ENTER_WORDS_MAX, Exec, Request, Way},
    },
    transport::{APP, NodeKey, Transport},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// A host starts a program within a fraction of a second, or is busy.
const ENTER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where an app is entered.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub(super) app: String,
    pub lease: u64,
    pub node: NodeKey,
}

/// What goes in, and where what comes out goes.
pub struct Streams<I, O, E> {
    pub stdin: I,
    pub stdout: O,
    pub stderr: E,
    /// Rows and columns of the terminal, as they change; none ever where there is no terminal.
    pub resized: mpsc::Receiver<(u16, u16)>,
}

impl<T: Transport> Apps<T> {
    /// A replica that runs: that of this lease, or the first.
    pub async fn entrance(&self, name: &str, lease: Option<u64>) -> Result<Entrance, Fault> {
        let record = self.record(name)?;
        let mut leases = self.leases(&record).await?.into_iter().filter(|lease| lease.state == RUNNING);
        let found: Option<Lease> = match lease {
            Some(id) => leases.find(|lease| lease.id == id),
            None => leases.next(),
        };
        let lease = found.ok_or_else(|| Fault::NoReplica { app: name.to_owned(), lease })?;
        Ok(Entrance { app: name.to_owned(), lease: lease.id, node: NodeKey(lease.node.0) })
    }

    /// Runs a program inside, or carries files, until it ends; its exit code. Standard input may end before, and what it
    /// says is written as it comes.
    pub async fn enter<I, O, E>(&self, at: &Entrance, way: Way, streams: Streams<I, O, E>) -> Result<u8, Fault>
    where
        I: AsyncRead + Send + Unpin,
        O: AsyncWrite + Send + Unpin,
        E: AsyncWrite + Send + Unpin,
    {
        let Streams { stdin, mut stdout, mut stderr, resized } = streams;
        let (sink, mut stream) = self.open(at, way).await?;
        let hear = async {
            loop {
                match hear(&mut stream).await? {
                    Answer::Bytes(bytes) => {
                        stdout.write_all(&bytes).await?;
                        stdout.flush().await?;
                    }
                    Answer::Errors(bytes) => {
                        stderr.write_all(&bytes).await?;
                        stderr.flush().await?;
                    }
                    Answer::Exited { code } => return Ok(code),
                    answer => return Err(HostError::of(answer)),
                }
            }
        };
        let code: Result<u8, HostError> = tokio::select! {
            code = hear => code,
            failed = say(sink, stdin, resized) => Err(failed),
        };
        code.map_err(|error| told(&at.app, error))
    }

    /// Carries a connection to a port inside, until both sides have no more to say.
    pub async fn carry(&self, at: &Entrance, port: u16, socket: TcpStream) -> Result<(), Fault> {
        let (sink, mut stream) = self.open(at, Way::Port(port)).await?;
        let (read, mut write) = socket.into_split();
        let into = async {
            loop {
                match hear(&mut stream).await? {
                    Answer::Bytes(bytes) => write.write_all(&bytes).await?,
                    Answer::End => return Ok::<_, HostError>(write.shutdown().await?),
                    answer => return Err(HostError::of(answer)),
                }
            }
        };
        let out = async {
            let mut sink = sink;
            pump(&mut sink, read).await.map(|()| sink)
        };
        // The sink is held until both are over: one that ends would break the other.
        let (heard, said) = tokio::join!(into, out);
        heard.and(said.map(drop)).map_err(|error| told(&at.app, error))
    }

    pub(super) async fn open(&self, at: &Entrance, way: Way) -> Result<(T::Sink, T::Stream), Fault> {
        let peer = self.peer(at.node).await?;
        let at_ms = now_ms();
        let signature = self.viewer(&at.app).sign(&Seal::bytes(self.chain_id, &peer.key, at.lease, at_ms));
        let enter = Request::Enter { lease: at.lease, seal: Seal { at_ms, signature }, way };
        let opened = within(ENTER_TIMEOUT, async {
            let (mut sink, mut stream) = self.link.open(&peer, APP).await?;
            send(&mut sink, enter.encode()).await?;
            match hear(&mut stream).await? {
                Answer::Connected => Ok((sink, stream)),
                answer => Err(HostError::of(answer)),
            }
        });
        opened.await.map_err(|error| told(&at.app, error))
    }
}

/// What a host said, of an app.
pub(super) fn told(app: &str, error: HostError) -> Fault {
    match error {
        HostError::Refused(words) => Fault::NotEntered(app.to_owned(), words),
        error => Fault::AppAway(format!("{app:?}"), error.to_string()),
    }
}

/// Whether a program's words are as many and as long as they may be.
pub fn fits(exec: &Exec) -> bool {
    let words = exec.argv.iter().chain(exec.env.iter().flat_map(|(name, value)| [name, value])).chain([&exec.workdir]);
    let bytes: usize = words.map(String::len).sum();
    (1..=ENTER_WORDS_MAX).contains(&exec.argv.len()) && exec.env.len() <= ENTER_WORDS_MAX && bytes <= ENTER_BYTES_MAX
}

/// Sends all of what is read, and that it is over.
async fn pump<S: Sink>(sink: &mut S, mut from: impl AsyncRead + Unpin) -> Result<(), HostError> {
    let mut piece = vec![0; CHUNK_BYTES_MAX];
    loop {
        let read = from.read(&mut piece).await?;
        let frame = if read == 0 { Request::End } else { Request::Bytes(piece[..read].to_vec()) };
        send(sink, frame.encode()).await?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Sends what goes in, and the terminal's sizes; it returns only what went wrong, and holds the sink as long as it lives.
async fn say<S: Sink>(
    mut sink: S,
    mut stdin: impl AsyncRead + Unpin,
    mut resized: mpsc::Receiver<(u16, u16)>,
) -> HostError {
    let mut piece = vec![0; CHUNK_BYTES_MAX];
    let (mut is_open, mut has_terminal) = (true, true);
    while is_open || has_terminal {
        let frame = tokio::select! {
            read = stdin.read(&mut piece), if is_open => match read {
                Ok(0) => {
                    is_open = false;
                    Request::End
                }
                Ok(read) => Request::Bytes(piece[..read].to_vec()),
                Err(error) => return error.into(),
            },
            size = resized.recv(), if has_terminal => match size {
                Some((rows, columns)) => Request::Resize { rows, columns },
                None => {
                    has_terminal = false;
                    continue;
                }
            },
        };
        if let Err(error) = send(&mut sink, frame.encode()).await {
            // Why it ended may be on its way.
            tokio::time::sleep(ENTER_TIMEOUT).await;
            return error.into();
        }
    }
    std::future::pending().await
}
