//! Ask for a secret on a terminal without showing it.

use std::{
    io::{self, Read, Write},
    os::fd::RawFd,
};
use zeroize::Zeroizing;

/// What a terminal sends for these keys where it leaves them to the program.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 127];
/// Longer lines are no passphrase.
const LINE_BYTES_MAX: usize = 4096;

/// Asks on standard input, which must be a terminal. `None`: the answer was Ctrl-C.
pub(crate) fn secret(question: &str) -> io::Result<Option<Zeroizing<String>>> {
    let mut to = io::stderr().lock();
    let silent = Silent::new(libc::STDIN_FILENO)?;
    write!(to, "{question}: ").and_then(|()| to.flush())?;
    let answer = line(&mut io::stdin().lock());
    drop(silent);
    writeln!(to)?;
    answer
}

/// A terminal that neither shows nor interprets what is typed; as it was before once this is dropped.
struct Silent {
    terminal: RawFd,
    before: libc::termios,
}

impl Silent {
    fn new(terminal: RawFd) -> io::Result<Self> {
        // SAFETY: `termios` is plain integers, for which zero is valid; the calls read and write only the struct given.
        unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(terminal, &mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut silent = before;
            // Signals too: a Ctrl-C must not leave a terminal behind that shows nothing.
            silent.c_lflag &= !(libc::ECHO | libc::ICANON | libc::ISIG);
            silent.c_cc[libc::VMIN] = 1;
            silent.c_cc[libc::VTIME] = 0;
            if libc::tcsetattr(terminal, libc::TCSAFLUSH, &silent) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { terminal, before })
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // SAFETY: as above. That it fails would mean that the terminal is gone.
        unsafe { libc::tcsetattr(self.terminal, libc::TCSAFLUSH, &self.before) };
    }
}

/// Reads up to the end of a line, minding the keys a terminal minds otherwise.
fn line(from: &mut impl Read) -> io::Result<Option<Zeroizing<String>>> {
    let mut typed = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while typed.len() < LINE_BYTES_MAX && from.read(&mut *byte)? == 1 {
        match byte[0] {
            CTRL_C => return Ok(None),
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_U => typed.clear(),
            erase if BACKSPACE.contains(&erase) => {
                // One character: its last byte and those that continue it.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte => typed.push(byte),
        }
    }
    let text = std::str::from_utf8(&typed).map_err(io::Error::other)?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::fd::FromRawFd, ptr::null_mut};

    #[test]
    fn keys_that_correct_a_line_correct_it() {
        let read = |bytes: &[u8]| line(&mut &bytes[..]).unwrap().map(|text| text.to_string());
        assert_eq!(read(b"correct horse\nnext"), Some("correct horse".into()));
        assert_eq!(read(b"wrong\x15right\r"), Some("right".into()));
        assert_eq!(read("h\u{e9}\u{7f}e\n".as_bytes()), Some("he".into()), "a character is erased whole");
        assert_eq!(read(b"\x7fx\n"), Some("x".into()));
        assert_eq!(read(b"abc\x03"), None);
        assert!(line(&mut &b"\xff\n"[..]).is_err());
    }

    #[test]
    fn what_is_typed_is_not_shown_and_the_terminal_comes_back() {
        let (mut master, mut slave) = (0, 0);
        // SAFETY: both integers outlive the call; no name, settings or size are given.
        let made = unsafe { libc::openpty(&mut master, &mut slave, null_mut(), null_mut(), null_mut()) };
        assert_eq!(made, 0);
        // SAFETY: openpty made both, and nobody else has them.
        let (mut person, mut terminal) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
        let silent = Silent::new(slave).unwrap();
        person.write_all(b"secret\n").unwrap();
        assert_eq!(line(&mut terminal).unwrap().unwrap().as_str(), "secret");
        drop(silent);
        person.write_all(b"shown\n").unwrap();
        let mut seen = [0; 64];
        let count = person.read(&mut seen).unwrap();
        let seen = String::from_utf8_lossy(&seen[..count]);
        assert!(seen.starts_with("shown"), "the echo is back, and nothing of the secret came before it: {seen:?}");
    }
}
