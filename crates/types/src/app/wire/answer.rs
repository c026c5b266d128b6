//! Spell what a host answers.

use super::{CHUNK_BYTES_MAX, Header, WORDS_MAX, WireError, read_chunk, read_headers, read_signed, write_headers};
use crate::{
    app::{MANIFEST_BYTES_MAX, Manifest, container::LAYERS_MAX, transcript::Signed},
    cbor::{Reader, Writer},
};

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is on the host's disk.
    Given,
    /// Asked again unchanged it is refused again.
    Refused {
        words: String,
    },
    /// What was fetched; its wasm follows.
    Manifest(Manifest),
    /// Of a container's blobs these are not on the host's disk yet.
    Wants {
        blobs: Vec<[u8; 32]>,
    },
    Head {
        status: u16,
        headers: Vec<Header>,
    },
    /// Some of a component, a blob, a body or a connection, never none.
    Bytes(Vec<u8>),
    /// A connection into a container stands.
    Connected,
    /// What was entered complains, never of nothing.
    Errors(Vec<u8>),
    /// What was entered ended: 128 and the signal where one ended it, as shells count.
    Exited {
        code: u8,
    },
    /// No more comes from the container over its connection; it may hear on.
    End,
    /// The answer is over, and in words why it is not whole, if it is not.
    Done {
        readings: Readings,
        failure: Option<String>,
        /// On call: what all calls so far cost.
        due: Option<Due>,
    },
    /// On call: what was done costs so much more than was signed for that nothing more is done before.
    Unpaid {
        due: Due,
    },
    /// As many requests wait for the replica as may.
    Busy {
        retry_after_ms: u32,
    },
    /// The replica does not answer requests yet.
    NotReady {
        words: String,
    },
    /// The lease ended, or was never this host's.
    Gone,
    Replica(Box<Replica>),
    State(State),
    /// A watcher's, over `abi::unreachable_statement`.
    Signature([u8; 64]),
    /// What was asked and came of it; none where there is no further one.
    Transcript(Option<Box<Signed>>),
}

/// What a lease's calls cost so far, by its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub wei: u128,
    pub calls: u64,
}

/// What one request used. Fuel, memory and bytes are the same wherever it is run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    pub fuel: u64,
    pub memory_peak_bytes: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub wall_us: u64,
    /// Of which: making the instance, the warm start.
    pub instantiated_us: u64,
}

/// Where a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody gave what it runs yet.
    Waiting = 0,
    /// Its component is compiled, or its image unpacked.
    Compiling = 1,
    /// Its process starts, for the first time or again.
    Starting = 2,
    Ready = 3,
    /// It will not run as it is.
    Failed = 4,
    /// On call: its process starts when it is asked.
    Asleep = 5,
    /// On call: its process runs for a while yet.
    Warm = 6,
    /// Its volumes have nothing yet: who deployed it has to fill them.
    Restoring = 7,
}

/// How a replica is, by its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub state: State,
    /// Why it is not ready, in words.
    pub words: String,
    /// Since when its state is what it is, in milliseconds since 1970.
    pub since_ms: u64,
    /// Starting its process the last time.
    pub cold_ms: u64,
    /// Making an instance for the last request.
    pub warm_us: u64,
    /// Fences around its process that this machine lacks, in words; empty where all hold.
    pub missing: String,
    pub requests: u64,
    pub failures: u64,
    /// Times its process was started.
    pub starts: u64,
    pub fuel: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub memory_peak_bytes: u64,
    /// Of a container, what the kernel counted; none for a component.
    pub used: Option<Used>,
    /// Bytes it ever printed: where the next look goes on.
    pub log_end: u64,
    /// On call: what its calls cost so far.
    pub due: Due,
    /// The last of what it printed, for who has its viewer's seal.
    pub log: Vec<u8>,
}

/// What a container used since it was made, and has now, by the kernel's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub cpu_ms: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Compiling,
        Self::Starting,
        Self::Ready,
        Self::Failed,
        Self::Asleep,
        Self::Warm,
        Self::Restoring,
    ];

    /// Whether requests are taken.
    pub fn answers(self) -> bool {
        matches!(self, Self::Ready | Self::Asleep | Self::Warm)
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for what it runs",
            Self::Compiling => "preparing",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Asleep => "asleep",
            Self::Warm => "warm",
            Self::Restoring => "needs-owner",
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::ALL.get(usize::from(input.byte()?)).copied().ok_or(WireError::Limit("state"))
    }
}

impl Due {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.wei.to_be_bytes()).uint(self.calls);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { wei: u128::from_be_bytes(input.fixed()?), calls: input.uint()? })
    }
}

impl Readings {
    fn write(&self, out: &mut Writer) {
        out.array(6).uint(self.fuel).uint(self.memory_peak_bytes).uint(self.bytes_in).uint(self.bytes_out);
        out.uint(self.wall_us).uint(self.instantiated_us);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.tuple(6)?;
        Ok(Self {
            fuel: input.uint()?,
            memory_peak_bytes: input.uint()?,
            bytes_in: input.uint()?,
            bytes_out: input.uint()?,
            wall_us: input.uint()?,
            instantiated_us: input.uint()?,
        })
    }
}

impl Replica {
    fn write(&self, out: &mut Writer) {
        // A component's is spelled as before there were containers.
        let (kind, values) = if self.used.is_some() { (18, 21) } else { (10, 18) };
        out.array(values).uint(kind).uint(self.state as u64);
        text(out, &self.words);
        out.uint(self.since_ms).uint(self.cold_ms).uint(self.warm_us);
        text(out, &self.missing);
        out.uint(self.requests).uint(self.failures).uint(self.starts).uint(self.fuel);
        out.uint(self.bytes_in).uint(self.bytes_out).uint(self.memory_peak_bytes);
        out.uint(self.log_end);
        self.due.write(out);
        out.bytes(&self.log);
        self.used.iter().for_each(|used| {
            out.uint(used.cpu_ms).uint(used.memory_bytes).uint(used.disk_bytes);
        });
    }

    fn read(input: &mut Reader<'_>, is_container: bool) -> Result<Self, WireError> {
        let replica = Self {
            state: State::read(input)?,
            words: words(input)?,
            since_ms: input.uint()?,
            cold_ms: input.uint()?,
            warm_us: input.uint()?,
            missing: words(input)?,
            requests: input.uint()?,
            failures: input.uint()?,
            starts: input.uint()?,
            fuel: input.uint()?,
            bytes_in: input.uint()?,
            bytes_out: input.uint()?,
            memory_peak_bytes: input.uint()?,
            used: None,
            log_end: input.uint()?,
            due: Due::read(input)?,
            log: input.bytes(CHUNK_BYTES_MAX)?.to_vec(),
        };
        if !is_container {
            return Ok(replica);
        }
        let (cpu_ms, memory_bytes, disk_bytes) = (input.uint()?, input.uint()?, input.uint()?);
        Ok(Self { used: Some(Used { cpu_ms, memory_bytes, disk_bytes }), ..replica })
    }
}

/// Words, cut where a letter ends.
fn text(out: &mut Writer, words: &str) {
    out.text(&words[..words.floor_char_boundary(WORDS_MAX)]);
}

fn words(input: &mut Reader<'_>) -> Result<String, WireError> {
    Ok(input.text(WORDS_MAX)?.to_owned())
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Given => _ = out.array(1).uint(1),
            Self::Refused { words } => text(out.array(2).uint(2), words),
            Self::Manifest(manifest) => _ = out.array(2).uint(3).bytes(&manifest.encode()),
            Self::Head { status, headers } => {
                out.array(3).uint(4).uint((*status).into());
                write_headers(&mut out, headers);
            }
            Self::Bytes(bytes) => _ = out.array(2).uint(5).bytes(bytes),
            Self::Done { readings, failure, due } => {
                let (kind, values) = if due.is_some() { (13, 4) } else { (6, 2) };
                out.array(values + usize::from(failure.is_some())).uint(kind);
                readings.write(&mut out);
                due.iter().for_each(|due| due.write(&mut out));
                failure.iter().for_each(|words| text(&mut out, words));
            }
            Self::Busy { retry_after_ms } => _ = out.array(2).uint(7).uint((*retry_after_ms).into()),
            Self::NotReady { words } => text(out.array(2).uint(8), words),
            Self::Gone => _ = out.array(1).uint(9),
            Self::Replica(replica) => replica.write(&mut out),
            Self::State(state) => _ = out.array(2).uint(11).uint(*state as u64),
            Self::Signature(signature) => _ = out.array(2).uint(12).bytes(signature),
            Self::Transcript(None) => _ = out.array(1).uint(20),
            Self::Transcript(Some(signed)) => {
                out.array(3).uint(20).bytes(&signed.transcript.encode()).bytes(&signed.signature);
            }
            Self::Unpaid { due } => due.write(out.array(3).uint(14)),
            Self::Connected => _ = out.array(1).uint(16),
            Self::End => _ = out.array(1).uint(17),
            Self::Errors(bytes) => _ = out.array(2).uint(19).bytes(bytes),
            Self::Exited { code } => _ = out.array(2).uint(21).uint((*code).into()),
            Self::Wants { blobs } => {
                out.array(2).uint(15).array(blobs.len());
                blobs.iter().for_each(|sha256| _ = out.bytes(sha256));
            }
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(21)?, input.uint()?);
        let answer = match (kind, values) {
            (1, 1) => Self::Given,
            (2, 2) => Self::Refused { words: words(&mut input)? },
            (3, 2) => Self::Manifest(Manifest::decode(input.bytes(MANIFEST_BYTES_MAX)?)?),
            (4, 3) => {
                let status = input.uint()?;
                let status = u16::try_from(status).ok().filter(|status| (100..=999).contains(status));
                let status = status.ok_or(WireError::Limit("status"))?;
                Self::Head { status, headers: read_headers(&mut input)? }
            }
            (5, 2) => Self::Bytes(read_chunk(&mut input)?),
            (6, 2 | 3) | (13, 4 | 5) => {
                let readings = Readings::read(&mut input)?;
                let due = if kind == 13 { Some(Due::read(&mut input)?) } else { None };
                let failure = if values % 2 == 1 { Some(words(&mut input)?) } else { None };
                Self::Done { readings, failure, due }
            }
            (7, 2) => {
                let wait = u32::try_from(input.uint()?).map_err(|_| WireError::Limit("wait"))?;
                Self::Busy { retry_after_ms: wait }
            }
            (8, 2) => Self::NotReady { words: words(&mut input)? },
            (9, 1) => Self::Gone,
            (10, 18) => Self::Replica(Box::new(Replica::read(&mut input, false)?)),
            (18, 21) => Self::Replica(Box::new(Replica::read(&mut input, true)?)),
            (16, 1) => Self::Connected,
            (17, 1) => Self::End,
            (19, 2) => Self::Errors(read_chunk(&mut input)?),
            (21, 2) => Self::Exited { code: input.byte()? },
            (11, 2) => Self::State(State::read(&mut input)?),
            (12, 2) => Self::Signature(input.fixed()?),
            (20, 1) => Self::Transcript(None),
            (20, 3) => Self::Transcript(Some(Box::new(read_signed(&mut input)?))),
            (14, 3) => Self::Unpaid { due: Due::read(&mut input)? },
            (15, 2) => {
                let count = input.array(LAYERS_MAX + 1)?;
                let blobs = (0..count).map(|_| input.fixed()).collect::<Result<_, _>>()?;
                Self::Wants { blobs }
            }
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(answer)
    }
}
