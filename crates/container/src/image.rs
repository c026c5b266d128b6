//! Read an image's config, and what of it a container runs.

use crate::{
    error::Error,
    root::Root,
    spec::{LAYERS_MAX, Spec, UIDS, check_words, check_workdir},
};
use serde::Deserialize;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A `passwd` or `group` longer than this is not looked through.
const USERS_BYTES_MAX: u64 = 1 << 20;
const GROUPS_MAX: usize = 64;

/// What of a config counts here; whatever else it says, is left.
#[derive(Deserialize)]
pub(crate) struct Image {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<Run>,
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// What is run: words, surroundings, place.
pub(crate) struct Process {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) workdir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: i32,
}

/// Who runs it, as numbers inside.
#[derive(Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl Image {
    pub(crate) fn parse(config: &[u8]) -> Result<Self, Error> {
        let image: Self = serde_json::from_slice(config)
            .map_err(|error| Error::Image(format!("its config is no config: {error}")))?;
        let ours = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if image.os != "linux" || image.architecture != ours {
            let found = format!("{}/{}", image.os, image.architecture);
            return Err(Error::Image(format!("it is built for {found}, and this machine is linux/{ours}")));
        }
        if image.rootfs.diff_ids.len() > LAYERS_MAX {
            return Err(Error::Image(format!("more than {LAYERS_MAX} layers")));
        }
        Ok(image)
    }

    /// What its layers hash to unpacked, lowest first.
    pub(crate) fn diff_ids(&self) -> Result<Vec<[u8; 32]>, Error> {
        let parse = |text: &String| {
            let mut id = [0; 32];
            let digits = text.strip_prefix("sha256:").filter(|digits| hex::decode_to_slice(digits, &mut id).is_ok());
            digits.map(|_| id).ok_or_else(|| Error::Image(format!("{text:?} is no DiffID of sha256")))
        };
        self.rootfs.diff_ids.iter().map(parse).collect()
    }

    pub(crate) fn process(self, spec: &Spec) -> Result<Process, Error> {
        let run = self.config.unwrap_or_default();
        // Another entrypoint is another program: the image's words are not for it.
        let command = spec.command.clone().or_else(|| run.cmd.filter(|_| spec.entrypoint.is_none()));
        let entrypoint = spec.entrypoint.clone().or(run.entrypoint);
        let argv: Vec<String> = entrypoint.into_iter().flatten().chain(command.into_iter().flatten()).collect();
        if argv.first().is_none_or(String::is_empty) {
            return Err(Error::Image("it names no program, and neither does the order: give a command".into()));
        }
        let mut env = run.env.unwrap_or_default();
        for (name, value) in &spec.env {
            put(&mut env, name, value);
        }
        if !env.iter().any(|line| line.starts_with("PATH=")) {
            put(&mut env, "PATH", PATH);
        }
        put(&mut env, "HOSTNAME", &spec.hostname);
        check_words(argv.iter().chain(&env))?;
        let workdir = spec.workdir.clone().or(run.working_dir).filter(|path| !path.is_empty());
        let workdir = workdir.unwrap_or_else(|| "/".into());
        if check_workdir(&workdir).is_err() {
            let rule = "it begins with `/`, leads nowhere up, and not into /proc";
            return Err(Error::Image(format!("its folder {workdir:?}: {rule}")));
        }
        let named = run.stop_signal.map(|name| signal(&name)).transpose()?;
        let user = spec.user.clone().or(run.user).unwrap_or_default();
        let stop_signal = spec.stop_signal.or(named).unwrap_or(libc::SIGTERM);
        Ok(Process { argv, env, workdir, user, stop_signal })
    }
}

fn put(env: &mut Vec<String>, name: &str, value: &str) {
    let start = format!("{name}=");
    env.retain(|line| !line.starts_with(&start));
    env.push(format!("{start}{value}"));
}

fn signal(name: &str) -> Result<i32, Error> {
    let signal = match name.strip_prefix("SIG").unwrap_or(name) {
        "TERM" => libc::SIGTERM,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "HUP" => libc::SIGHUP,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "WINCH" => libc::SIGWINCH,
        // systemd's in an image: `SIGRTMIN+3`.
        "RTMIN+3" => 37,
        number => number.parse().ok().filter(|number| (1..=64).contains(number)).unwrap_or(0),
    };
    if signal == 0 {
        Err(Error::Image(format!("it asks to be stopped by {name:?}, which is no signal")))
    } else {
        Ok(signal)
    }
}

impl User {
    /// Looks `who` up in what the image itself says of users, never following it outside.
    pub(crate) fn find(who: &str, root: &Root) -> Result<Self, Error> {
        let passwd = root.text("etc/passwd", USERS_BYTES_MAX).unwrap_or_default();
        let group = root.text("etc/group", USERS_BYTES_MAX).unwrap_or_default();
        Self::among(who, &passwd, &group)
    }

    fn among(who: &str, passwd: &str, group: &str) -> Result<Self, Error> {
        let (user, of) = who.split_once(':').map_or((who, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let mut line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 6);
        let line = line.find(|line| line[0] == user || user.parse().is_ok_and(|uid: u32| line[2].parse() == Ok(uid)));
        let unknown = |what: &str| Error::Image(format!("it has no {what}"));
        let uid = match &line {
            Some(line) => line[2].parse().ok(),
            None => user.parse().ok(),
        };
        let uid: u32 = uid.ok_or_else(|| unknown(&format!("user {user:?}")))?;
        let mut gid = line.as_ref().and_then(|line| line[3].parse().ok()).unwrap_or(0);
        let named = line.as_ref().map_or(user, |line| line[0]);
        let mut groups = Vec::new();
        let mut found = of.is_none();
        for line in group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 4) {
            let Ok(number) = line[2].parse() else { continue };
            if !found && of == Some(line[0]) {
                (gid, found) = (number, true);
            }
            if of.is_none() && line[3].split(',').any(|member| member == named) && groups.len() < GROUPS_MAX {
                groups.push(number);
            }
        }
        if !found {
            let name = of.unwrap_or_default();
            gid = name.parse().map_err(|_| unknown(&format!("group {name:?}")))?;
        }
        if [uid, gid].iter().chain(&groups).any(|number| *number >= UIDS) {
            return Err(Error::Image(format!("users and groups are below {UIDS}")));
        }
        let home = line.as_ref().map_or("/", |line| line[5]).to_owned();
        Ok(Self { uid, gid, groups, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:web\n";

    #[test]
    fn users_are_found_by_name_and_number_with_their_groups() {
        let web = User { uid: 33, gid: 34, groups: vec![50], home: "/srv".into() };
        assert_eq!(User::among("web", PASSWD, GROUP).expect("known"), web);
        assert_eq!(User::among("33", PASSWD, GROUP).expect("known"), web);
        let other = User::among("33:logs", PASSWD, GROUP).expect("known");
        assert_eq!((other.uid, other.gid, other.groups), (33, 50, vec![]));
        let unnamed = User::among("1001:7", PASSWD, GROUP).expect("numbers need no name");
        assert_eq!((unnamed.uid, unnamed.gid, unnamed.home.as_str()), (1001, 7, "/"));
        assert_eq!(User::among("", PASSWD, GROUP).expect("root").uid, 0);
        assert!(User::among("nobody", PASSWD, GROUP).is_err());
        assert!(User::among("70000", PASSWD, GROUP).is_err());
    }
}
