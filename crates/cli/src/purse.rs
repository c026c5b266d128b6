//! Keep an identity's keys in one folder, readable by its owner alone.
//!
//! ```text
//! main.sealed    the main key under a passphrase      or      main.key    the main key as backup text
//! data.key       opens the buckets, moves no coin             owner       the main account, public
//! spender.key    a capped account, once a budget is set
//! ```
//! A recovery kit carries the main key, the budget's key and [`KEPT`]; everything else follows from these.

use crate::{
    fault::{self, Fault, Result},
    paths::{create_private, write_whole},
    prompt,
};
use alloy_primitives::{Address, B256, keccak256};
use hodei_node::keys::Secret;
use hodei_sdk::wallet::Wallet;
use hodei_types::{
    chain::Chain,
    key::{Cost, FILE_BYTES_MAX, KeyError, KeyKind, SecretKey},
    kit::Kit,
};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, IsTerminal},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// A passphrase longer than this is a mistake: the wrong file was named.
const PASSPHRASE_BYTES_MAX: usize = 1024;

/// What the last kit held besides the main key, as a digest.
const KIT: &str = "kit.digest";

/// Small files of the folder that follow from no key.
const KEPT: &[&str] = &["s3-keys.json"];

/// The folder of one identity.
#[derive(Clone, Debug)]
pub(crate) struct Purse {
    folder: PathBuf,
}

impl Purse {
    /// Names a folder; nothing is read yet.
    pub(crate) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Puts a main key into a folder that holds none; sealed when there is a passphrase.
    pub(crate) fn create(folder: PathBuf, main: &SecretKey, passphrase: Option<&str>) -> Result<Self> {
        let owner =
            hodei_sdk::wallet::address(main).ok_or_else(|| broken(&folder, "the key is not one of an account"))?;
        let purse = Self { folder };
        for name in ["main.sealed", "main.key"] {
            let path = purse.folder.join(name);
            if path.exists() {
                return Err(Fault::new(
                    &fault::EXISTS,
                    "there is a wallet already, and it is never overwritten",
                    "choose another name, or move that folder away",
                )
                .at(path.display()));
            }
        }
        create_private(&purse.folder)?;
        match passphrase {
            Some(passphrase) => {
                write_whole(&purse.folder.join("main.sealed"), &seal(main, passphrase)?, 0o600)?;
            }
            None => write_whole(&purse.folder.join("main.key"), line(main).as_bytes(), 0o600)?,
        }
        write_whole(&purse.folder.join("data.key"), line(&main.data_root()).as_bytes(), 0o600)?;
        write_whole(&purse.folder.join("owner"), format!("{owner}\n").as_bytes(), 0o600)?;
        Ok(purse)
    }

    /// A fresh main key.
    pub(crate) fn fresh() -> Result<SecretKey> {
        let secret = Secret::generate().map_err(|error| Fault::new(&fault::INTERNAL, error, "try again"))?;
        Ok(SecretKey::new(KeyKind::Account, *secret.bytes()))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.folder.join("main.sealed").exists()
    }

    /// The main account.
    pub(crate) fn owner(&self) -> Result<Address> {
        let path = self.folder.join("owner");
        let text = read(&path)?.ok_or_else(|| self.absent())?;
        text.trim().parse().map_err(|_| broken(&path, "it is not an account"))
    }

    /// The main key; `passphrase` is asked for only when it is sealed.
    pub(crate) fn main(&self, passphrase: impl FnOnce() -> Result<Zeroizing<String>>) -> Result<SecretKey> {
        let sealed = self.folder.join("main.sealed");
        match std::fs::read(&sealed) {
            Ok(file) => unseal(&file, &passphrase()?, &sealed),
            Err(error) if error.kind() == ErrorKind::NotFound => self.key("main.key")?.ok_or_else(|| self.absent()),
            Err(error) => Err(Fault::io(&sealed, "reading the wallet", &error)),
        }
    }

    /// Everything for the owner's acts.
    pub(crate) fn open(
        &self,
        chain: Arc<dyn Chain>,
        passphrase: impl FnOnce() -> Result<Zeroizing<String>>,
    ) -> Result<Wallet> {
        let wallet =
            Wallet::open(chain, &self.main(passphrase)?).map_err(|error| broken(&self.folder, &error.to_string()))?;
        match self.key("spender.key")? {
            Some(spender) => wallet.with_spender(&spender).map_err(|error| broken(&self.folder, &error.to_string())),
            None => Ok(wallet),
        }
    }

    /// What everyday work needs: never the main key when a budget is set or the main key is sealed.
    pub(crate) fn everyday(&self, chain: Arc<dyn Chain>) -> Result<Wallet> {
        if let Some(spender) = self.key("spender.key")? {
            let data = self.key("data.key")?.ok_or_else(|| self.absent())?;
            return Wallet::capped(chain, self.owner()?, &spender, &data)
                .map_err(|error| broken(&self.folder, &error.to_string()));
        }
        self.open(chain, || {
            Err(Fault::new(
                &fault::WALLET,
                "the main key is sealed, and there is no budget to spend from",
                "set one: hodei wallet budget set AMOUNT, or name the passphrase's file: --passphrase-file",
            )
            .at(self.folder.display()))
        })
    }

    /// The spending account's key, where a budget was set.
    pub(crate) fn budget_key(&self) -> Result<Option<SecretKey>> {
        self.key("spender.key")
    }

    /// What a kit carries besides keys.
    pub(crate) fn kept_files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for name in KEPT {
            let path = self.folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => _ = files.insert((*name).to_owned(), bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::io(&path, "reading the wallet", &error)),
            }
        }
        Ok(files)
    }

    /// Puts into a wallet just made what a kit carries besides its main key.
    pub(crate) fn put_back(&self, kit: &Kit) -> Result<()> {
        if let Some(spender) = &kit.spender {
            write_whole(&self.folder.join("spender.key"), line(spender).as_bytes(), 0o600)?;
        }
        // Only names this program wrote: a kit never says where else a file goes.
        for (name, bytes) in kit.files.iter().filter(|(name, _)| KEPT.contains(&name.as_str())) {
            write_whole(&self.folder.join(name), bytes, 0o600)?;
        }
        Ok(())
    }

    /// Remembers what a kit holds, which was made here or opened here.
    pub(crate) fn note_kit(&self, kit: &Kit) -> Result<()> {
        let digest = digest(kit.spender.as_ref(), &kit.files);
        write_whole(&self.folder.join(KIT), format!("{digest}\n").as_bytes(), 0o600)
    }

    /// Whether there was a kit, and something else is here now.
    pub(crate) fn is_kit_stale(&self) -> Result<bool> {
        let Some(noted) = read(&self.folder.join(KIT))? else { return Ok(false) };
        Ok(noted.trim() != digest(self.budget_key()?.as_ref(), &self.kept_files()?).to_string())
    }

    /// The spending account's key, and whether it was made just now because there was none.
    pub(crate) fn spender(&self) -> Result<(SecretKey, bool)> {
        if let Some(key) = self.key("spender.key")? {
            return Ok((key, false));
        }
        let key = Self::fresh()?;
        write_whole(&self.folder.join("spender.key"), line(&key).as_bytes(), 0o600)?;
        Ok((key, true))
    }

    /// Undoes [`Purse::spender`] where its account was never used.
    pub(crate) fn forget_spender(&self) -> Result<()> {
        let path = self.folder.join("spender.key");
        std::fs::remove_file(&path).map_err(|error| Fault::io(&path, "removing an unused key", &error))
    }

    fn key(&self, name: &str) -> Result<Option<SecretKey>> {
        let path = self.folder.join(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|error: KeyError| broken(&path, &error.to_string()))
    }

    fn absent(&self) -> Fault {
        Fault::new(
            &fault::WALLET,
            "there is no wallet",
            "restore it from its backup: hodei key restore FILE --context-name NAME",
        )
        .at(self.folder.display())
    }
}

/// Of what a kit holds besides the main key.
fn digest(spender: Option<&SecretKey>, files: &BTreeMap<String, Vec<u8>>) -> B256 {
    let key = spender.map(SecretKey::backup);
    let mut whole = Zeroizing::new(key.map_or(Vec::new(), |key| key.as_bytes().to_vec()));
    for (name, bytes) in files {
        whole.extend_from_slice(format!("\n{name} {}\n", bytes.len()).as_bytes());
        whole.extend_from_slice(bytes);
    }
    keccak256(&*whole)
}

/// Fresh salt and nonce.
fn salted() -> Result<([u8; 16], [u8; 12])> {
    let fresh = || Secret::generate().map_err(|error| Fault::new(&fault::INTERNAL, error, "try again"));
    let (salt, nonce) = (fresh()?, fresh()?);
    let salt = salt.bytes()[..16].try_into().expect("16 of 32 bytes");
    Ok((salt, nonce.bytes()[..12].try_into().expect("12 of 32 bytes")))
}

/// Seals a recovery kit under a passphrase.
pub(crate) fn seal_kit(kit: &Kit, passphrase: &str) -> Result<Vec<u8>> {
    let (salt, nonce) = salted()?;
    kit.seal(passphrase, Cost::default(), salt, nonce)
        .map_err(|error| Fault::new(&fault::WALLET, error, "choose another passphrase"))
}

/// Seals a key under a passphrase.
pub(crate) fn seal(key: &SecretKey, passphrase: &str) -> Result<Vec<u8>> {
    let (salt, nonce) = salted()?;
    key.seal(passphrase, Cost::default(), salt, nonce)
        .map_err(|error| Fault::new(&fault::WALLET, error, "choose another passphrase"))
}

/// Opens what [`seal`] wrote.
pub(crate) fn unseal(file: &[u8], passphrase: &str, path: &Path) -> Result<SecretKey> {
    if file.len() > FILE_BYTES_MAX {
        return Err(broken(path, "it is too long for a sealed key"));
    }
    SecretKey::open(file, passphrase).map_err(|error| {
        Fault::new(&fault::WALLET, error, "type the passphrase again, or use a backup").at(path.display())
    })
}

/// A passphrase from a file, or typed on a terminal, or from standard input.
pub(crate) fn passphrase(file: Option<&Path>) -> Result<Zeroizing<String>> {
    let text = match file {
        Some(path) => read(path)?.ok_or_else(|| {
            Fault::new(&fault::NO_FILE, "the passphrase file does not exist", "check --passphrase-file")
                .at(path.display())
        })?,
        None if std::io::stdin().is_terminal() => typed("Passphrase")?,
        None => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin()
                .read_line(&mut text)
                .map_err(|error| Fault::new(&fault::WALLET, error, "name a file with --passphrase-file"))?;
            text
        }
    };
    let first = text.lines().next().unwrap_or_default();
    if first.is_empty() || first.len() > PASSPHRASE_BYTES_MAX {
        let help = "type it on a terminal, or put it on the first line of a file: --passphrase-file FILE";
        return Err(Fault::new(&fault::WALLET, "there is no passphrase", help)
            .between(format!("1 to {PASSPHRASE_BYTES_MAX} bytes"), format!("{} bytes", first.len())));
    }
    Ok(Zeroizing::new(first.to_owned()))
}

/// A passphrase for something that is sealed now: typed twice, for a slip would lock it for good.
pub(crate) fn new_passphrase(file: Option<&Path>) -> Result<Zeroizing<String>> {
    let first = passphrase(file)?;
    if file.is_none() && std::io::stdin().is_terminal() && typed("The same again")? != first {
        return Err(Fault::new(
            &fault::WALLET,
            "the two passphrases differ",
            "run it again and type the same one twice",
        ));
    }
    Ok(first)
}

fn typed(question: &str) -> Result<Zeroizing<String>> {
    let answer = prompt::secret(question)
        .map_err(|error| Fault::new(&fault::WALLET, error, "name a file with --passphrase-file"))?;
    answer.ok_or_else(|| Fault::new(&fault::INTERRUPTED, "no passphrase was given", "run the same command again"))
}

fn line(key: &SecretKey) -> Zeroizing<String> {
    let mut text = key.backup();
    text.push('\n');
    text
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io(path, "reading the wallet", &error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Fault::new(
            &fault::WALLET,
            "others may read this secret, and perhaps have",
            format!("make a new one, or `chmod 600 {}` if you are sure nobody did", path.display()),
        )
        .at(path.display())
        .between("mode 600", format!("mode {mode:o}")));
    }
    if metadata.len() > FILE_BYTES_MAX.max(PASSPHRASE_BYTES_MAX) as u64 {
        return Err(broken(path, "it is too long for a key or passphrase"));
    }
    std::fs::read_to_string(path)
        .map(|text| Some(Zeroizing::new(text)))
        .map_err(|error| Fault::io(path, "reading the wallet", &error))
}

fn broken(path: &Path, why: &str) -> Fault {
    Fault::new(
        &fault::WALLET,
        format!("the wallet cannot be used: {why}"),
        "restore it from its backup: hodei key restore",
    )
    .at(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hodei-purse-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_sealed_wallet_opens_with_its_passphrase_only() {
        let folder = scratch("sealed");
        let main = Purse::fresh().unwrap();
        let purse = Purse::create(folder.clone(), &main, Some("correct horse")).unwrap();
        assert!(purse.is_sealed());
        assert_eq!(purse.main(|| Ok(Zeroizing::new("correct horse".into()))).unwrap(), main);
        let fault = purse.main(|| Ok(Zeroizing::new("wrong".into()))).unwrap_err();
        assert_eq!(fault.code.id, "HD4003");
        for entry in std::fs::read_dir(&folder).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let backup = main.backup();
            let leaked = bytes.windows(backup.len()).any(|window| window == backup.as_bytes());
            assert!(!leaked, "the main key lies beside its sealed file");
        }
        assert_eq!(Purse::create(folder.clone(), &main, None).unwrap_err().code.id, "HD1103");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_wallet_others_may_read_is_refused() {
        let folder = scratch("exposed");
        let main = Purse::fresh().unwrap();
        let purse = Purse::create(folder.clone(), &main, None).unwrap();
        let never = || panic!("an unsealed key asks for nothing");
        assert_eq!(purse.main(never).unwrap(), main);
        std::fs::set_permissions(folder.join("main.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let fault = purse.main(never).unwrap_err();
        assert_eq!(fault.found.as_deref(), Some("mode 644"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
