//! Spell what somebody wants inside a container.

use super::{TARGET_BYTES_MAX, WireError};
use crate::{
    app::NAME_BYTES_MAX,
    cbor::{Reader, Writer},
};

/// Words of a command and of its variables, each.
pub const ENTER_WORDS_MAX: usize = 256;
/// All of them together.
pub const ENTER_BYTES_MAX: usize = 32 << 10;
/// Rows or columns of a terminal.
pub const TERMINAL_MAX: u16 = 4096;

/// What is wanted inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Exec(Exec),
    /// A file or folder, as a tar archive whose names begin with its last.
    Read {
        path: String,
    },
    /// An archive goes into the folder at `path`, or is called so where there is none.
    Write {
        path: String,
    },
    /// A connection to a port of its loopback.
    Port(u16),
    /// What a volume holds now: its listing comes, and each piece that is wanted then. `since` is the hash of a listing
    /// whose pieces the asker has.
    Snapshot {
        volume: String,
        since: Option<[u8; 32]>,
    },
    /// What a volume that was never used holds from now on: nothing but its image's files, or what follows.
    Fill {
        volume: String,
        is_born: bool,
    },
}

/// A program that is run beside the container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    pub argv: Vec<String>,
    /// Besides the container's own.
    pub env: Vec<(String, String)>,
    /// The folder it begins in; the container's own where empty.
    pub workdir: String,
    /// Its terminal's rows and columns, if it has one; then its errors come with what it says.
    pub terminal: Option<(u16, u16)>,
}

impl Way {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Exec(Exec { argv, env, workdir, terminal }) => {
                out.array(if terminal.is_some() { 6 } else { 4 }).uint(1);
                out.array(argv.len());
                argv.iter().for_each(|word| _ = out.text(word));
                out.array(env.len());
                env.iter().for_each(|(name, value)| _ = out.array(2).text(name).text(value));
                out.text(workdir);
                terminal.iter().for_each(|(rows, columns)| _ = out.uint((*rows).into()).uint((*columns).into()));
            }
            Self::Read { path } => _ = out.array(2).uint(2).text(path),
            Self::Write { path } => _ = out.array(2).uint(3).text(path),
            Self::Port(port) => _ = out.array(2).uint(4).uint((*port).into()),
            Self::Snapshot { volume, since } => {
                out.array(2 + usize::from(since.is_some())).uint(5).text(volume);
                since.iter().for_each(|hash| _ = out.bytes(hash));
            }
            Self::Fill { volume, is_born } => _ = out.array(3).uint(6).text(volume).uint((*is_born).into()),
        }
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(6)?, input.uint()?);
        let way = match (kind, values) {
            (1, 4 | 6) => {
                let count = input.array(ENTER_WORDS_MAX)?;
                let argv = (0..count).map(|_| word(&mut input)).collect::<Result<Vec<_>, _>>()?;
                let count = input.array(ENTER_WORDS_MAX)?;
                let pair = |input: &mut Reader<'_>| {
                    input.tuple(2)?;
                    Ok::<_, WireError>((word(input)?, word(input)?))
                };
                let env = (0..count).map(|_| pair(&mut input)).collect::<Result<Vec<_>, _>>()?;
                let workdir = word(&mut input)?;
                let terminal = if values == 6 { Some(read_size(&mut input)?) } else { None };
                if argv.is_empty() {
                    return Err(WireError::Limit("a command of no words"));
                }
                Self::Exec(Exec { argv, env, workdir, terminal })
            }
            (2, 2) => Self::Read { path: input.text(TARGET_BYTES_MAX)?.to_owned() },
            (3, 2) => Self::Write { path: input.text(TARGET_BYTES_MAX)?.to_owned() },
            (4, 2) => Self::Port(u16::try_from(input.uint()?).map_err(|_| WireError::Limit("port"))?),
            (5, 2 | 3) => {
                let volume = input.text(NAME_BYTES_MAX)?.to_owned();
                Self::Snapshot { volume, since: if values == 3 { Some(input.fixed()?) } else { None } }
            }
            (6, 3) => {
                let volume = input.text(NAME_BYTES_MAX)?.to_owned();
                let is_born = match input.uint()? {
                    0 => false,
                    1 => true,
                    _ => return Err(WireError::Limit("is_born")),
                };
                Self::Fill { volume, is_born }
            }
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(way)
    }
}

fn word(input: &mut Reader<'_>) -> Result<String, WireError> {
    Ok(input.text(ENTER_BYTES_MAX)?.to_owned())
}

pub(super) fn read_size(input: &mut Reader<'_>) -> Result<(u16, u16), WireError> {
    let side = |number: u64| u16::try_from(number).ok().filter(|side| *side <= TERMINAL_MAX);
    side(input.uint()?).zip(side(input.uint()?)).ok_or(WireError::Limit("terminal"))
}
