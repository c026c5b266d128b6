//! Go into an app's containers: run a program, copy files, forward a port, watch what they use.

use crate::{
    args::{AppCp, AppExec, AppForward, AppStats},
    fault::{self, Fault, Result},
    out::{Out, bytes, table},
    session::sdk_fault,
};
use hodei_sdk::{
    app::{Apps, Carried, Entrance, Exec, Running, Streams, Way, enter_fits, pack, unpack},
    link::Link,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, empty, sink},
    net::{TcpListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// `hodei app exec`: ends this program with the exit code of the one inside.
pub(crate) async fn exec(args: &AppExec, apps: &Apps<Link>) -> Result<()> {
    let env = args.env.iter().map(|line| match line.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (line.clone(), std::env::var(line).unwrap_or_default()),
    });
    let raw = if args.terminal { Some(Raw::enter()?) } else { None };
    let exec = Exec {
        argv: args.command.clone(),
        env: env.collect(),
        workdir: args.workdir.clone().unwrap_or_default(),
        terminal: raw.as_ref().map(|_| size()),
    };
    if !enter_fits(&exec) {
        let help = "give it a file: hodei app cp";
        return Err(Fault::new(&fault::APP_SPEC, "a command has at most 256 words of 32 KiB together", help));
    }
    let at = apps.entrance(&args.name.app, args.lease).await.map_err(sdk_fault)?;
    let (tell, resized) = mpsc::channel(1);
    if raw.is_some() {
        tokio::spawn(follow_size(tell));
    }
    let stdin: Box<dyn AsyncRead + Send + Unpin> =
        if args.interactive || args.terminal { Box::new(tokio::io::stdin()) } else { Box::new(empty()) };
    let streams = Streams { stdin, stdout: tokio::io::stdout(), stderr: tokio::io::stderr(), resized };
    let code = apps.enter(&at, Way::Exec(exec), streams).await;
    drop(raw);
    let code = code.map_err(sdk_fault)?;
    // Somebody may be reading standard input still, on a thread that only the end of this program ends.
    std::io::stdout().flush().ok();
    std::process::exit(code.into());
}

/// This terminal as the program inside wants it; dropped, it is as it was.
struct Raw(libc::termios);

impl Raw {
    fn enter() -> Result<Self> {
        let help = "leave out -t: with -i alone standard input goes in as it is";
        let wrong = |what: &str| Fault::new(&fault::APP_SPEC, what, help);
        if !std::io::stdin().is_terminal() {
            return Err(wrong("-t is for a terminal, and standard input is none"));
        }
        // SAFETY: a termios of zeroes is a valid one, and outlives the call.
        let mut now: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        if unsafe { libc::tcgetattr(0, &raw mut now) } != 0 {
            return Err(wrong("this terminal does not say how it is"));
        }
        let mut raw = now;
        // SAFETY: both structs are whole.
        unsafe {
            libc::cfmakeraw(&raw mut raw);
            libc::tcsetattr(0, libc::TCSANOW, &raw const raw);
        }
        Ok(Self(now))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the struct is the terminal's own of before.
        unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw const self.0) };
    }
}

/// Rows and columns of this terminal.
fn size() -> (u16, u16) {
    // SAFETY: a winsize of zeroes is a valid one, and outlives the call.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let known = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) } == 0;
    if known && size.ws_row > 0 { (size.ws_row.min(4096), size.ws_col.min(4096)) } else { (24, 80) }
}

async fn follow_size(tell: mpsc::Sender<(u16, u16)>) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    while changed.recv().await.is_some() && tell.send(size()).await.is_ok() {}
}

/// A path here, or `NAME:/path` in an app.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (app, path) = text.split_once(':')?;
    (!app.is_empty() && !app.contains('/')).then_some((app, path))
}

/// `hodei app cp`
pub(crate) async fn cp(args: &AppCp, apps: &Apps<Link>, out: Out) -> Result<()> {
    let (from, to) = (parts(&args.from), parts(&args.to));
    let (app, is_in) = match (from, to) {
        (Some((app, _)), None) => (app, false),
        (None, Some((app, _))) => (app, true),
        _ => {
            let words = "one of both is in an app, as shop:/var/log, and the other one is here";
            return Err(Fault::new(&fault::APP_SPEC, words, "write a path here that has a colon as ./a:b"));
        }
    };
    let at = apps.entrance(app, args.lease).await.map_err(sdk_fault)?;
    let done = match is_in {
        true => put(apps, &at, Path::new(&args.from), to.map_or("/", |(_, path)| path)).await?,
        false => get(apps, &at, from.map_or("/", |(_, path)| path), Path::new(&args.to)).await?,
    };
    out.result(
        format!("{}: {} files, {}", args.to, done.files, bytes(done.bytes)),
        &json!({
            "schema": "hodei.app.cp/1", "from": args.from, "to": args.to, "lease": at.lease, "node": at.node.to_string(),
            "files": done.files, "bytes": done.bytes,
        }),
    );
    Ok(())
}

/// What went in.
async fn put(apps: &Apps<Link>, at: &Entrance, from: &Path, to: &str) -> Result<Carried> {
    let (near, far) = pipe()?;
    let source: PathBuf = from.into();
    let packing = tokio::task::spawn_blocking(move || pack(&source, near));
    let mut said = Vec::new();
    let (_tell, resized) = mpsc::channel(1);
    let streams = Streams { stdin: far, stdout: sink(), stderr: &mut said, resized };
    let code = apps.enter(at, Way::Write { path: to.to_owned() }, streams).await.map_err(sdk_fault);
    let packed = packing.await.map_err(|error| Fault::new(&fault::INTERNAL, error, "report it"))?;
    let packed = packed.map_err(|error| Fault::io(from, "reading it", &error));
    // Who refuses in there breaks off what is read here; what is wrong here alone is told as that.
    match code {
        Ok(0) => packed,
        Ok(code) if packed.is_ok() || !said.is_empty() => Err(ended(code, &said)),
        Ok(_) => packed,
        Err(fault) => Err(fault),
    }
}

async fn get(apps: &Apps<Link>, at: &Entrance, from: &str, to: &Path) -> Result<Carried> {
    let (near, far) = pipe()?;
    let target: PathBuf = to.into();
    let unpacking = tokio::task::spawn_blocking(move || unpack(near, &target));
    let mut said = Vec::new();
    let (_tell, resized) = mpsc::channel(1);
    let streams = Streams { stdin: empty(), stdout: far, stderr: &mut said, resized };
    let code = apps.enter(at, Way::Read { path: from.to_owned() }, streams).await.map_err(sdk_fault);
    let unpacked = unpacking.await.map_err(|error| Fault::new(&fault::INTERNAL, error, "report it"))?;
    let unpacked = unpacked.map_err(|error| Fault::io(to, "writing it", &error));
    match code {
        Ok(0) => unpacked,
        Ok(code) => Err(ended(code, &said)),
        // What stopped it may be here.
        Err(fault) => Err(unpacked.err().unwrap_or(fault)),
    }
}

/// Two ends of a stream: for a thread, and for this program's tasks.
fn pipe() -> Result<(std::os::unix::net::UnixStream, UnixStream)> {
    let made = || {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        far.set_nonblocking(true)?;
        Ok::<_, std::io::Error>((near, UnixStream::from_std(far)?))
    };
    made().map_err(|error| Fault::new(&fault::INTERNAL, error, "close some programs, and try again"))
}

/// What could not be carried, in the words of who tried inside.
fn ended(code: u8, said: &[u8]) -> Fault {
    let said = String::from_utf8_lossy(said);
    let words = match said.trim() {
        "" => format!("it ended with {code}, and did not say why"),
        said => said.to_owned(),
    };
    Fault::new(&fault::NO_FILE, words, "look inside: hodei app exec NAME -- ls -l /")
}

/// `hodei app port-forward`, until it is stopped.
pub(crate) async fn forward(args: &AppForward, apps: Apps<Link>, out: Out) -> Result<()> {
    let (here, port) = args.ports;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], here));
    let at = apps.entrance(&args.name.app, args.lease).await.map_err(sdk_fault)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Fault::new(&fault::EXISTS, format!("{address}: {error}"), "name another port of this machine, as 9000:80")
    })?;
    let address = listener.local_addr().unwrap_or(address);
    out.result(
        format!("{address} leads to port {port} of {}, until this ends", args.name.app),
        &json!({
            "schema": "hodei.app.port-forward/1", "address": address.to_string(), "port": port, "lease": at.lease,
            "node": at.node.to_string(),
        }),
    );
    let apps = Arc::new(apps);
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (apps, at) = (apps.clone(), at.clone());
        tokio::spawn(async move {
            if let Err(error) = apps.carry(&at, port, socket).await {
                out.say(format!("a connection ended: {error}"));
            }
        });
    }
}

/// `hodei app stats`: what each replica has and used, once, or every so often until it is stopped.
pub(crate) async fn stats(args: &AppStats, apps: &Apps<Link>, out: Out) -> Result<()> {
    let mut before = BTreeMap::new();
    loop {
        let shown = apps.show(&args.name.app).await.map_err(sdk_fault)?;
        let mut rows = Vec::new();
        for running in &shown.replicas {
            rows.push(one(running, &mut before, out));
        }
        if !out.json {
            let head = ["LEASE", "NODE", "STATE", "CPU", "CPU TIME", "MEMORY", "OF", "DISK", "OF", "IN", "OUT"];
            println!("{}", table(&head, &rows));
        }
        let Some(every) = args.every else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs(every)).await;
        if !out.json {
            println!();
        }
    }
}

/// What one replica has; its share of a CPU since it was looked at before, which is noted.
fn one(running: &Running, before: &mut BTreeMap<u64, (u64, std::time::Instant)>, out: Out) -> Vec<String> {
    let lease = &running.lease;
    let said = running.replica.as_ref();
    let used = said.and_then(|said| said.used);
    let now = std::time::Instant::now();
    let was = used.and_then(|used| before.insert(lease.id, (used.cpu_ms, now)));
    let share = used.zip(was).and_then(|(used, (cpu_ms, at))| {
        let spent = u128::from(used.cpu_ms.saturating_sub(cpu_ms)) * 1000;
        spent.checked_div(now.duration_since(at).as_millis())
    });
    let state = said.map_or("away", |said| said.state.name());
    if out.json {
        let value = json!({
            "schema": "hodei.app.stats/1", "lease": lease.id, "node": running.node.to_string(), "state": state,
            "cpu_milli": share.map(|milli| milli as u64), "cpu_ms": used.map(|used| used.cpu_ms),
            "cpu_milli_max": lease.capacity.cpuMilli, "memory_bytes": used.map(|used| used.memory_bytes),
            "memory_bytes_max": lease.capacity.memoryBytes, "disk_bytes": used.map(|used| used.disk_bytes),
            "disk_bytes_max": lease.capacity.diskBytes, "bytes_in": said.map(|said| said.bytes_in),
            "bytes_out": said.map(|said| said.bytes_out),
        });
        out.result("", &value);
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        lease.id.to_string(),
        crate::status::short(&running.node.to_string()),
        state.to_owned(),
        or_none(share.map(|milli| format!("{}.{} %", milli / 10, milli % 10))),
        or_none(used.map(|used| format!("{}.{:03} s", used.cpu_ms / 1000, used.cpu_ms % 1000))),
        or_none(used.map(|used| bytes(used.memory_bytes))),
        bytes(lease.capacity.memoryBytes),
        or_none(used.map(|used| bytes(used.disk_bytes))),
        bytes(lease.capacity.diskBytes),
        or_none(said.map(|said| bytes(said.bytes_in))),
        or_none(said.map(|said| bytes(said.bytes_out))),
    ]
}
