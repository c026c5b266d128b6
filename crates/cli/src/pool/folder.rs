//! Keep a pool in a folder of its own.

use crate::{
    context::{Member, check_name},
    fault::{self, Fault, Result},
    paths::{Paths, write_whole},
    provide::wire,
    serve::home_fault,
    session::Session,
};
use hodei_node::{
    home::{Home, Lock},
    keys::{Keys, Secret},
    pool::{Pool, Word, read},
};
use hodei_types::{
    ack::Signer,
    transport::{NodeKey, Peer},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

/// The door's port where none was named: beside a node's.
const PORT: u16 = 4435;
const NAME_BYTES_MAX: usize = 32;

/// Where the door listens, and where devices reach it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Door {
    pub(crate) listen: SocketAddr,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// A pool's folder, which need not exist.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn named(paths: &Paths, context: &str, pool: &str) -> Result<Self> {
        check_name(pool)?;
        if pool.len() > NAME_BYTES_MAX {
            return Err(Fault::new(&fault::USAGE, "that name is too long", "choose a shorter one")
                .between(format!("at most {NAME_BYTES_MAX} letters"), pool.len()));
        }
        Ok(Self(all(paths, context).join(pool)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.0.join("pool.json")
    }

    pub(crate) fn check_present(&self) -> Result<()> {
        if self.state_file().exists() {
            return Ok(());
        }
        let help = "`hodei pool list` names the pools of this context, `hodei pool create` makes one";
        Err(Fault::new(&fault::NO_POOL, "there is no such pool", help).at(self.0.display()))
    }

    pub(crate) fn check_absent(&self) -> Result<()> {
        match self.0.exists() {
            true => Err(Fault::new(&fault::EXISTS, "there is a pool of that name already", "choose another name")
                .at(self.0.display())),
            false => Ok(()),
        }
    }

    /// Makes the folder; nothing is left where it fails.
    pub(crate) fn make(&self, state: &Pool, door: &Door) -> Result<()> {
        self.check_absent()?;
        let made = self.write(state, door);
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
        made
    }

    fn write(&self, state: &Pool, door: &Door) -> Result<()> {
        self.keys()?;
        let token = hex::encode(random::<32>()?);
        write_whole(&self.0.join("token"), format!("{token}\n").as_bytes(), 0o600)?;
        let door = toml::to_string(door).map_err(|error| Fault::new(&fault::INTERNAL, error, "report it"))?;
        write_whole(&self.0.join("door.toml"), door.as_bytes(), 0o600)?;
        // Last: a folder with this file is a pool.
        write_whole(&self.state_file(), &state.text(), 0o600)
    }

    fn home(&self) -> Result<Home> {
        Home::create(&self.0).map_err(home_fault)
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        self.home()?.lock().map_err(home_fault)
    }

    pub(crate) fn keys(&self) -> Result<Keys> {
        Keys::open(&self.home()?)
            .map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there").at(self.0.display()))
    }

    /// The state as it was last written down; the process that runs the pool replaces the file whole.
    pub(crate) fn state(&self) -> Result<Pool> {
        self.check_present()?;
        let path = self.state_file();
        let text = std::fs::read(&path).map_err(|error| Fault::io(&path, "reading the pool", &error))?;
        read(&text)
            .map_err(|error| Fault::new(&fault::FOLDER, error, "put back a copy of that file").at(path.display()))
    }

    pub(crate) fn door(&self) -> Result<Door> {
        let path = self.0.join("door.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| Fault::io(&path, "reading the door", &error))?;
        toml::from_str::<Door>(&text).ok().filter(|door| !door.addresses.is_empty()).ok_or_else(|| {
            Fault::new(&fault::SETTINGS, "the pool's door is not understood", "correct that file")
                .at(path.display())
                .between("listen = \"IP:PORT\" and addresses = [\"IP:PORT\"]", "something else")
        })
    }

    pub(crate) fn token(&self) -> Result<[u8; 32]> {
        let path = self.0.join("token");
        let text = std::fs::read_to_string(&path).map_err(|error| Fault::io(&path, "reading the token", &error))?;
        let mut token = [0; 32];
        hex::decode_to_slice(text.trim(), &mut token).map_err(|_| {
            Fault::new(&fault::FOLDER, "the token is not 64 hex digits", "put a copy of that file back")
                .at(path.display())
        })?;
        Ok(token)
    }

    pub(crate) fn peer(&self, door: &Door) -> Result<Peer> {
        let key = Signer::new(self.keys()?.node.bytes()).node();
        Ok(Peer::at(key, door.addresses.clone()))
    }

    /// The word by which devices join.
    pub(crate) fn word(&self, state: &Pool, door: &Door, session: &Session) -> Result<String> {
        let member = |member: &Member| {
            let mut key = [0; 32];
            hex::decode_to_slice(&member.key, &mut key).ok()?;
            Some(Peer::at(NodeKey(key), member.addresses.clone()))
        };
        let word = Word {
            network: session.network_key,
            name: session.name.clone(),
            operator: state.operator,
            secret: state.secret,
            door: self.peer(door)?,
            members: session.context.member.iter().filter_map(member).collect(),
        };
        word.text().map_err(|error| Fault::new(&fault::SETTINGS, error, "correct the context's file"))
    }
}

/// The folder of all pools of a context.
pub(crate) fn all(paths: &Paths, context: &str) -> PathBuf {
    paths.data.join("pools").join(context)
}

/// Where the door will be: as named, on loopback among loopback members, or where this machine sends from.
pub(crate) fn place(named: Option<SocketAddr>, members: &[Member]) -> Result<Door> {
    // The word names it for good.
    if let Some(named) = named.filter(|named| named.port() == 0 || named.ip().is_unspecified()) {
        let help = "name the address and port at which devices reach this pool";
        return Err(Fault::new(&fault::USAGE, "no device could dial that address", help)
            .between("IP:PORT of this machine, as devices reach it", named));
    }
    let link = wire(named, members, PORT);
    let addresses = match link.advertise.is_empty() {
        false => link.advertise,
        // Fixed now, for the word names it.
        true => {
            let socket = UdpSocket::bind(link.listen).and_then(|socket| socket.local_addr());
            let fault = |error| Fault::new(&fault::NODE, error, "allow this user to open a UDP socket");
            vec![socket.map_err(fault)?]
        }
    };
    let listen = if link.listen.port() == 0 { addresses[0] } else { link.listen };
    Ok(Door { listen, addresses })
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let secret = Secret::generate().map_err(|error| Fault::new(&fault::INTERNAL, error, "try again"))?;
    let mut bytes = [0; N];
    bytes.copy_from_slice(&secret.bytes()[..N]);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_has_an_address_that_a_word_can_name() {
        let member = |address: &str| Member { key: "00".repeat(32), addresses: vec![address.parse().unwrap()] };
        let near = place(None, &[member("127.0.0.1:7")]).unwrap();
        assert!(near.listen.port() != 0 && near.addresses == [near.listen], "{near:?}");
        let named = place(Some("203.0.113.9:77".parse().unwrap()), &[member("198.51.100.1:7")]).unwrap();
        assert_eq!(named.listen, "0.0.0.0:77".parse().unwrap());
        assert_eq!(named.addresses, ["203.0.113.9:77".parse().unwrap()]);
        for nowhere in ["0.0.0.0:0", "0.0.0.0:77", "203.0.113.9:0", "[::]:77"] {
            let fault = place(Some(nowhere.parse().unwrap()), &[member("198.51.100.1:7")]).unwrap_err();
            assert_eq!((fault.code.id, fault.found.as_deref()), ("HD1001", Some(nowhere)));
        }
    }
}
