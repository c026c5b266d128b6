//! Follow what a container says, through two files that are turned over.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

/// Read at once at most.
const PIECE_BYTES_MAX: u64 = 64 << 10;

/// How far the files of one container were read.
pub(super) struct Tail {
    /// What is older, and what is newest.
    paths: [PathBuf; 2],
    /// The file that is read, by its number, and how far it was.
    read: Option<(u64, u64)>,
}

impl Tail {
    /// Begins close to the end of what is there.
    pub(super) fn new(paths: [PathBuf; 2]) -> Self {
        Self { paths, read: None }
    }

    /// What was said since, some of it; nothing where there is nothing new.
    pub(super) fn more(&mut self) -> io::Result<Vec<u8>> {
        let open = |path: &PathBuf| match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        };
        let Some(mut newest) = open(&self.paths[1])? else { return Ok(Vec::new()) };
        let (number, length) = { newest.metadata().map(|about| (about.ino(), about.len()))? };
        match self.read {
            None => self.read = Some((number, length.saturating_sub(PIECE_BYTES_MAX))),
            Some((read, at)) if read != number => {
                // What was newest is older by now: its rest comes first.
                if let Some(mut older) = open(&self.paths[0])?
                    && older.metadata()?.ino() == read
                {
                    let rest = piece(&mut older, at)?;
                    if !rest.is_empty() {
                        self.read = Some((read, at + rest.len() as u64));
                        return Ok(rest);
                    }
                }
                self.read = Some((number, 0));
            }
            Some((_, at)) if at > length => self.read = Some((number, 0)),
            Some(_) => {}
        }
        let at = self.read.map_or(0, |(_, at)| at);
        let found = piece(&mut newest, at)?;
        self.read = Some((number, at + found.len() as u64));
        Ok(found)
    }
}

fn piece(file: &mut File, at: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(PIECE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::{fs, io::Write as _};

    #[test]
    fn nothing_is_lost_or_read_twice_where_the_files_are_turned_over() {
        let scratch = Scratch::new("tail");
        let paths = [scratch.path().join("log.1"), scratch.path().join("log")];
        let mut tail = Tail::new(paths.clone());
        assert_eq!(tail.more().unwrap(), b"");
        let mut log = File::create(&paths[1]).unwrap();
        log.write_all(b"one ").unwrap();
        assert_eq!((tail.more().unwrap(), tail.more().unwrap()), (b"one ".to_vec(), Vec::new()));
        log.write_all(b"two ").unwrap();
        fs::rename(&paths[1], &paths[0]).unwrap();
        fs::write(&paths[1], b"three").unwrap();
        assert_eq!(tail.more().unwrap(), b"two ");
        assert_eq!((tail.more().unwrap(), tail.more().unwrap()), (b"three".to_vec(), Vec::new()));
    }

    #[test]
    fn of_a_long_past_the_last_is_read() {
        let scratch = Scratch::new("tail-long");
        let paths = [scratch.path().join("log.1"), scratch.path().join("log")];
        fs::write(&paths[1], vec![b'x'; PIECE_BYTES_MAX as usize + 5]).unwrap();
        let mut tail = Tail::new(paths);
        assert_eq!(tail.more().unwrap().len() as u64, PIECE_BYTES_MAX);
        assert_eq!(tail.more().unwrap(), b"");
    }
}
