//! Say what failed, where, what was expected and found, and what to do.
//!
//! Each failure has a stable code explained offline by `hodei help HDxxxx`, and a kind that is the exit
//! code. A fault always says what to do next; a command that cannot tell leaves nothing half done first.

use serde_json::{Value, json};
use std::fmt;

/// What kind of failure, and so the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    NotAllowed = 4,
    Temporary = 5,
    VerificationFalse = 6,
    Refused = 7,
    Precondition = 8,
    Unhealthy = 9,
    Interrupted = 130,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::NotAllowed => "not_allowed",
            Self::Temporary => "temporary",
            Self::VerificationFalse => "verification_false",
            Self::Refused => "refused",
            Self::Precondition => "precondition",
            Self::Unhealthy => "unhealthy",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the same command may succeed later, unchanged.
    pub(crate) fn retryable(self) -> bool {
        self == Self::Temporary
    }
}

/// A stable code: number, kind, one line, a paragraph.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) id: &'static str,
    pub(crate) kind: Kind,
    pub(crate) title: &'static str,
    pub(crate) explain: &'static str,
}

macro_rules! codes {
    ($($name:ident $id:literal $kind:ident $title:literal $explain:literal;)+) => {
        $(pub(crate) static $name: Code = Code { id: $id, kind: Kind::$kind, title: $title, explain: $explain };)+
        /// Every code, in order. Numbers are never reused.
        pub(crate) static CODES: &[&Code] = &[$(&$name),+];
    };
}

codes! {
    INTERNAL "HD1000" Failed "something broke inside hodei"
        "A step failed in a way no other code describes. The message names the step. If it happens again with the same input, it is a bug: report it with the message and the node's log file.";
    USAGE "HD1001" Usage "the command line was not understood"
        "An argument is missing, unknown or malformed. `hodei COMMAND --help` shows examples first.";
    SETTINGS "HD1002" Usage "a settings file could not be used"
        "A file of settings could not be read or holds a key or value that means nothing. Unknown keys are errors, so that a typing mistake never silently means the default. The message names file and line.";
    FOLDER "HD1003" Failed "a folder or file could not be used"
        "Reading or writing on this machine failed: permissions, a full disk, or a file where a folder should be. Nothing was sent anywhere.";
    NO_FILE "HD1004" NotFound "there is no such file or folder"
        "A file or folder that the command was to read, or the folder it was to write into, is not on this machine. Nothing was sent or paid.";
    NO_CONTEXT "HD1101" NotFound "no cloud was chosen"
        "Commands act on a context: a network, the members to reach it through, and a wallet. `hodei demo --keep` saves one while it runs, `hodei net create` and `hodei net join` save one for good. Choose with -C NAME, HODEI_CONTEXT, or `current` in config.toml.";
    UNKNOWN_CONTEXT "HD1102" NotFound "there is no context of that name"
        "The name given by -C, HODEI_CONTEXT or `current` in config.toml is not in the configuration. `hodei status` without a context lists those that are.";
    EXISTS "HD1103" Precondition "it exists already"
        "Something of that name exists and is not replaced. Choose another name, or remove the old one first.";
    CONFIRM "HD1104" Precondition "it was not confirmed"
        "The command costs something or cannot be undone, and nobody said yes. Answer `y` at the question, or pass `-y`; severe acts want the name typed, as in `--confirm=NAME`. `--dry-run` shows what would happen.";
    CONTENDED "HD2010" Temporary "others write the bucket at this moment"
        "A change of a bucket is swapped in if nobody changed it since it was read; this one was too slow again and again, or another account holds the bucket for up to a minute. Nothing is half done: run the same command again.";
    UNREACHABLE "HD2001" Temporary "no member of the network answered"
        "None of the context's members answered in time. They may be starting, stopped, or cut off from here. `hodei doctor` tells which; the same command may be run again.";
    HALTED "HD2002" Temporary "the ledger does not move"
        "No block was finalized in the time given. More than a third of the validators may be away. Money and data are not lost: the chain goes on when enough of them are back.";
    TX_REFUSED "HD2003" Failed "the ledger refused a transaction"
        "The transaction was refused on arrival or reverted when it ran; the reason given is the ledger's. A reverted transaction changed nothing but the fee.";
    LIED "HD2004" Failed "a member answered what its certificate does not support"
        "An answer did not verify under the network key. Either that member lies, or it runs other software. The answer was not used.";
    UNKNOWN_TRANSACTION "HD2007" NotFound "no final block holds that transaction"
        "It may wait in a mempool, may have been dropped or replaced, or was never sent. A transaction is final about a second after a member took it.";
    GENESIS "HD2005" Precondition "the genesis file does not fit"
        "The folder, the file and the network disagree on what network this is. A node never starts on a disagreement.";
    TICKET "HD2006" Usage "the invitation is not valid"
        "An invitation is one word that starts with hodeijoin1 and carries its own checksum: a letter was lost, or it is for another version.";
    PENDING "HD2008" Temporary "whether it was done is not known yet"
        "A transaction was handed to a member, and none could say since whether it is in a final block. It may be executed when the ledger goes on. `hodei chain show TX` tells; the same command run again is another transaction.";
    PAYMENT "HD2009" Failed "whether coins were sent is not known yet"
        "A transfer was handed to a member, and none could say since whether it is in a final block. It may still be executed when the ledger goes on, so the same command must not simply be run again: it would send once more. `hodei chain show TX` tells once it is final, and `hodei wallet history` lists it.";
    NO_BUCKET "HD3001" NotFound "there is no such bucket"
        "The wallet owns no bucket of that name on this network. `hodei data list` shows those it owns.";
    NO_OBJECT "HD3002" NotFound "there is no such object"
        "The bucket holds no object under that key. `hodei data list hodei://BUCKET` shows those it holds.";
    REFERENCE "HD3003" Usage "the reference was not understood"
        "Objects are named hodei://BUCKET/KEY, buckets hodei://BUCKET; anything else is a file here, and - is standard input or output.";
    NO_PROVIDER "HD3008" NotFound "there is no such provider"
        "No provider registered on this network has a key that begins so, or more than one has. `hodei status` lists them with the beginning of their keys.";
    PUT_SHORT "HD3004" Temporary "too few providers hold it"
        "Fewer providers than the bucket's quorum acknowledged, or the read-back failed. The object is not visible; what was stored is dropped by the providers when its intent expires. Run the same command again: shards that arrived are not sent twice.";
    GET_SHORT "HD3005" Temporary "too few shards could be read"
        "Fewer than k providers answered with a shard whose hash is right. The message names those that were asked. The file here was not touched.";
    PLACEMENT "HD3006" Precondition "the bucket's promise cannot be kept here"
        "There are too few providers, operators or zones for the loss the bucket should survive. Nothing was bought. The message names the largest loss that fits.";
    OFFER "HD3013" Temporary "an offer changed since the plan"
        "Between the plan and the purchase a provider raised its price, left, or missed a proof. What was bought before stays, and the same command goes on with the offers of now.";
    BOUND "HD3014" Refused "it is locked until its date"
        "Versions under object lock are kept until their date, and with those under compliance their bucket's deals: nobody can end that, nor shrink a deal, and only the owner's own account lets one grow. A bucket binds 4,096 writes at the same time.";
    UNREADABLE "HD3015" Unhealthy "some of it cannot be read"
        "Of some stripes fewer shards are there than restore them. The message names the objects. Where providers are only away they may bring the shards back: run the same command again then. What was lost for good is put again from where it came, or removed; everything else is repaired.";
    FULL "HD3007" Refused "there is no room"
        "The disk here or the capacity bought is smaller than what was to be written. Nothing of it is visible, and what was stored of it is released. Of a bucket's deals the last 2 % stay free of objects, so that a full one takes removals: at least 8 MiB of each, at most an eighth. What is removed gives its room back a minute later, since others may be reading it; `hodei data redundancy BUCKET --capacity SIZE` enlarges the bucket.";
    S3_KEYS "HD3020" Precondition "the keys of the S3 door could not be used"
        "They are in s3-keys.json in the wallet's folder, which only its owner may read: it holds secrets. `hodei s3 key add NAME` makes one, `hodei s3 key list` shows what there is; a door that runs acts on a change at once.";
    NO_KEY "HD3021" NotFound "there is no such key of the S3 door"
        "s3-keys.json in the wallet's folder has no access key of that id. `hodei s3 key list` shows those it has.";
    CUSTODIAN "HD3033" NotFound "that is not in anybody's care"
        "A bucket is looked after by accounts that its owner appointed with `hodei data care appoint`, each with a word that starts with hodeicare1. `hodei data care show BUCKET` names them; `hodei data care account` shows the account of this machine.";
    LINK "HD3009" NotFound "the link opens nothing"
        "A link leads to an object, or to all below a prefix, until it expires, is revoked, or its bucket goes. It is one word that starts with hodeishare1 and carries its own checksum, so a letter lost in copying is told too. Whoever shared it can make a new one.";
    PASS "HD3018" NotAllowed "the pass is for another reader"
        "A pass is a link that names one reader, and every provider refuses any other: the word alone opens nothing. `hodei share reader` prints what this identity is called on this network; the owner makes a pass for it with `hodei share create … --for READER`. Another context or wallet of this machine may be the reader it names: choose it with -C NAME.";
    SPENT "HD3019" Refused "the pass is used up"
        "A paid pass pays each of the bucket's providers for so many MiB, out of a tab that its owner opened. What is left there is too little for what was to be read, and the same command will not do better. The message says how many whole MiB were paid, what they cost, and how many the pass is for: of a MiB that was begun nothing is paid, and it returns to the owner with the rest once the tab has ended. The owner makes another pass with `hodei share create … --for READER --pay COINS`, where `--dry-run` tells how much that pays for; `hodei share list` shows the owner what was claimed of each.";
    FOREIGN "HD3010" Failed "the other S3 server could not be read"
        "The server named by --endpoint refused or was not understood; the message is its own. What was carried before stays, and the same command goes on behind it. Nothing is ever written there.";
    FOREIGN_AWAY "HD3011" Temporary "the other S3 server did not answer"
        "It could not be reached, or failed in the middle. What was carried before stays, and the same command goes on behind it.";
    NO_FOREIGN "HD3017" NotFound "the other S3 server has no such bucket or object"
        "The server named by --endpoint answered that it does not have it; the message is its own. Nothing is ever written there.";
    SEALED "HD3016" Refused "it opens only with its customer's key"
        "The object was put through the S3 door, or at another S3 server, with a key of its customer's (SSE-C), which nobody here has. Whoever has it reads the object there. A sync leaves it out, and goes on.";
    CARRIED_PART "HD3012" Unhealthy "not everything was carried"
        "Some objects or files could not be carried; each was named. The others are whole. The same command tries again only what is missing.";
    MOUNT "HD3030" Precondition "nothing was mounted"
        "The folder must exist and be empty, and the kernel must speak FUSE: /dev/fuse is there once the module is loaded (modprobe fuse), in a container once it is given (--device /dev/fuse --cap-add SYS_ADMIN). Without FUSE, programs that speak S3 reach the same bucket through `hodei s3 serve`.";
    MOUNT_RIGHT "HD3031" NotAllowed "this user may not mount"
        "Root mounts by itself. For other users the system's package fuse3 brings fusermount3, which mounts for them; --allow-other needs user_allow_other in /etc/fuse.conf besides. Without it, programs that speak S3 reach the same bucket through `hodei s3 serve`.";
    MOUNT_KEPT "HD3032" Unhealthy "not everything that was written is in the bucket"
        "Some files could not be stored: somebody else changed the object meanwhile, too few providers answered, or the mount ended before a program closed the file. Their content is in the files that were named, on this machine. Compare, and store what you want with `hodei data cp FILE hodei://BUCKET/KEY`.";
    NO_POOL "HD3040" NotFound "there is no such pool, or no such device in it"
        "Pools belong to a context, on the machine they were made on. `hodei pool list` names those of this one, `hodei pool show POOL` the devices of one.";
    POOL_REFUSED "HD3041" Refused "the pool does not do that"
        "A pool gives no more than a device's credit, acts for the account that made it alone, and holds to the limits it was made with. Nothing was changed.";
    NO_APP "HD3050" NotFound "there is no such app"
        "This wallet deployed no app of that name from this machine, or deleted it. `hodei app list` shows what there is, and what was deployed with the same account from elsewhere.";
    APP_SPEC "HD3051" Usage "what is to be deployed breaks a rule"
        "A value of app.toml, or a flag, is not one that an order can have. The message names the line where a file says it, the rule, and the nearest value that would keep it. Nothing was paid.";
    NO_OFFER "HD3052" Refused "no offers for all replicas"
        "The ledger's matcher finds fewer places than replicas were asked for. The message counts the hosts that each rule leaves, and names the nearest order that would be met; the command below is what somebody would run to offer what lacks. Nothing was paid.";
    COMPONENT "HD3053" Usage "that is no component that can be deployed"
        "A component is a wasm binary of the component model that exports wasi:http/incoming-handler or wasi:cli/run, or its text. Core modules are not: build for wasm32-wasip2, or wrap them by `wasm-tools component new`. Nothing was paid.";
    APP_FAILED "HD3054" Failed "the app does not run"
        "A host compiled or started it and says that it will not run as it is. Its words, and what the app printed last, are in the message. Its leases were ended, and what was not used came back.";
    APP_LATE "HD3055" Temporary "replicas did not become ready in time"
        "Hosts were paid and given the component, and not all replicas were ready in ten minutes. Their leases were ended, and what was not used came back. Run it again, or name other regions.";
    APP_AWAY "HD3058" Temporary "no replica answered"
        "None of the app's replicas took the request, or the one that took it did not answer to its end. A request that reached a component is not sent again: whether it was done is not known here. `hodei app show` tells how they are.";
    NOT_UPDATED "HD3075" Failed "the new release did not take over"
        "Its replicas were not ready in time, did not stay so, or it was broken off. What is known of why, with what it printed last, is in the message. Its leases were ended, and what was not used came back; requests went to the release before all the time.";
    UPDATE_OPEN "HD3076" Precondition "a release is on its way already"
        "Another command brings a new release of the app now, or was cut short. Nothing of it is forgotten: `hodei app update NAME --resume` goes on with it, `--abort` ends it, and `hodei app serve` or `hodei app keep` end it by themselves when its time is over.";
    NO_RELEASE "HD3077" NotFound "there is no such release"
        "The last five releases of an app are kept, on the machine that made them. `hodei app releases NAME` lists them.";
    NO_RESERVATION "HD3060" NotFound "there is no such reservation"
        "This wallet's account holds nothing under that number: it was released, its term is over, or it is another's. `hodei market reserved` lists what is held.";
    HELD_ROOM "HD3061" Refused "the reservation has no room for it"
        "What a reservation holds is full, or ends before the term that was asked for. `hodei market reserved` shows what is free of it and until when; ask for less or for a shorter term, hold more by `hodei market reserve`, or leave out --within. Nothing was paid.";
    HELD_USED "HD3062" Precondition "something stands in the reservation"
        "A reservation ends only when no lease stands in it any more: those of apps deployed within it, and those of others where it was lent. End the apps, recall what is lent, and wait until the others' leases are over. Nothing was changed.";
    IMAGE "HD3063" Usage "the image could not be taken"
        "It is in no registry that was asked, or not for whoever asked: log in by `docker login` or `podman login`. Or it is no image of linux/amd64 or linux/arm64, is larger than hosts take, is packed in a way that is not known, or its bytes are not what it says they are. The message says which. Nothing was paid.";
    IMAGE_AWAY "HD3064" Temporary "the registry did not answer"
        "The image's registry could not be reached, broke off again and again, or is asked too much. What came is kept for an hour: run it again.";
    NOT_ENTERED "HD3065" Refused "the container was not entered"
        "Its host did not start the program, or carry the files: what it runs is a component and no container, the image has no such program, or the app was deployed by another wallet. The message has the host's words. Nothing was changed.";
    NO_VOLUME "HD3080" NotFound "there is no such volume, or nothing of it"
        "The app has no volume of that name, or nothing of it was stored yet. Volumes are stored while `hodei app keep` or `hodei app serve` runs, and by `hodei app volume snapshot`.";
    VOLUME_TAKEN "HD3081" Precondition "another lease writes the volume"
        "Of a volume's leases one writes what is stored: the last that was told what is on it. What an earlier one has is not stored any more, and one that waits for its volumes has nothing yet. Nothing was changed.";
    HAS_VOLUMES "HD3082" Precondition "an app with volumes runs once"
        "Its disk is written by one replica at a time: it has no second replica and no release beside the one that runs. Nothing was changed.";
    ARCHIVE "HD3083" Usage "the archive is not taken"
        "It is no tar, has names that lead out of it, or more in it than the volume has room for. Nothing was changed.";
    FUNDS "HD4001" Refused "the wallet holds too little"
        "The balance is smaller than what the command would spend. `hodei wallet balance` shows it; nothing was sent.";
    BUDGET "HD4002" Refused "the budget is spent"
        "The spending account is empty: new spending stops here, reads of what you own go on from the reserve. `hodei wallet budget set AMOUNT` raises it.";
    WALLET "HD4003" NotAllowed "the wallet could not be opened"
        "The wallet file is missing, damaged, readable by others, or the passphrase is wrong. A wallet that others may read is refused, because somebody has perhaps already read it.";
    RECEIPT_FALSE "HD5001" VerificationFalse "the receipt does not verify"
        "A step from the event to the network key failed: the receipt, the key or the file was changed, or they do not belong together. The message names the first failing step with what was expected and found.";
    FILE_FALSE "HD5002" VerificationFalse "the file is not the one in the receipt"
        "The receipt itself verifies, but the file's hash with the receipt's salt is another than the event's.";
    CONTENT_FALSE "HD5005" VerificationFalse "the bytes are not those that were put"
        "What was read does not have the hash that the bucket's index keeps. It was not kept under its name. Run the command again; if it stays, other shards of the object should be read: `hodei data where` names who holds it.";
    STATEMENT_FALSE "HD5006" VerificationFalse "the statement is not true"
        "A line of a listing of `hodei node declined --json` is not what that node signed on this network: the statement, the key of the node or what stands beside it was changed, or they do not belong together. The message counts the line, with what was expected and found.";
    TRANSCRIPT_FALSE "HD5007" VerificationFalse "the transcript is not true"
        "A request that a host wrote down is not what its node signed, is of another component, or runs otherwise here: with other fuel, memory or answer. A changed file is known by its signature; where the signature holds and the run differs, the host signed what does not happen. The message has what was expected and found.";
    NOT_REPLAYED "HD5008" Precondition "the request cannot be run again here"
        "Nothing is said for or against the host. The transcript is of another engine than this program has, it was ended by the clock, the component does not run the same twice, or the sandbox could not be started. The message says which.";
    NETWORK_KEY "HD5003" Usage "the network key is not valid"
        "A network key is one word that starts with hodeinet1, in lower case, and carries its own checksum.";
    HISTORY "HD5004" VerificationFalse "the exported chain does not verify"
        "A block in the file is not what a certificate of this network's key covers, or does not lead to the state it claims. The message names the block. Nothing of the file was kept.";
    NODE "HD6001" Failed "the node could not run"
        "A node stopped or did not start; the message is its own. Its log file, logs/node.log in its folder, has more.";
    LOCKED "HD6002" Precondition "the folder is in use"
        "Another process runs a node in this folder. Two processes on one folder would sign two things with one key, so the second never starts.";
    SHARE "HD6003" NotAllowed "this validator may not vote yet"
        "The consensus journal is missing, so this key may have signed what is no longer known here. It follows first, and votes when it is safe. Only after a halt, and only when you know that the key did not sign since: `hodei chain validator start --after-loss`.";
    UNWELL "HD6004" Unhealthy "part of it is not well"
        "It runs, but a background loop failed or a check did not pass. The lines marked ✗ say which and what to do.";
    STEP "HD7001" Failed "a step of the demo failed"
        "The named step did not show what it should. The folder with all logs is kept and named.";
    INTERRUPTED "HD1300" Interrupted "stopped by you"
        "A signal ended the command. What was acknowledged stays; the same command goes on where it stopped.";
}

/// One failure, told once.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: &'static Code,
    pub(crate) message: String,
    pub(crate) at: Option<String>,
    pub(crate) expected: Option<String>,
    pub(crate) found: Option<String>,
    pub(crate) help: String,
    /// Where several things are wrong: all of them, each with its `text`, the first with them.
    pub(crate) all: Vec<Value>,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn new(code: &'static Code, message: impl fmt::Display, help: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            at: None,
            expected: None,
            found: None,
            help: help.to_string(),
            all: Vec::new(),
        }
    }

    /// Where: a file with line, an address, a key.
    pub(crate) fn at(mut self, at: impl fmt::Display) -> Self {
        self.at = Some(at.to_string());
        self
    }

    pub(crate) fn between(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.expected = Some(expected.to_string());
        self.found = Some(found.to_string());
        self
    }

    pub(crate) fn exit(&self) -> u8 {
        self.code.kind as u8
    }

    /// A failure of files on this machine.
    pub(crate) fn io(path: &std::path::Path, doing: &str, error: &std::io::Error) -> Self {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "check the name, or create it first",
            std::io::ErrorKind::PermissionDenied => "choose a place this user may use, or change its permissions",
            std::io::ErrorKind::StorageFull => "free some space, or choose another disk",
            _ => "check the disk and the path, then run the command again",
        };
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => &FULL,
            std::io::ErrorKind::NotFound => &NO_FILE,
            _ => &FOLDER,
        };
        Self::new(code, format!("{doing} failed: {error}"), help).at(path.display())
    }

    pub(crate) fn json(&self) -> Value {
        let mut error = json!({
            "code": self.code.id,
            "kind": self.code.kind.word(),
            "message": self.message,
            "help": self.help,
            "retryable": self.code.kind.retryable(),
        });
        for (name, value) in [("where", &self.at), ("expected", &self.expected), ("found", &self.found)] {
            if let Some(value) = value {
                error[name] = json!(value);
            }
        }
        if !self.all.is_empty() {
            error["all"] = json!(self.all);
        }
        json!({ "schema": "hodei.error/1", "error": error })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code.id, self.message)?;
        for text in self.all.iter().skip(1).filter_map(|wrong| wrong["text"].as_str()) {
            writeln!(f, "  {:>8}: {text}", "and")?;
        }
        for (name, value) in [("where", &self.at), ("expected", &self.expected), ("found", &self.found)] {
            if let Some(value) = value {
                writeln!(f, "  {name:>8}: {value}")?;
            }
        }
        write!(f, "  {:>8}: {}", "do", self.help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for code in CODES {
            assert!(seen.insert(code.id), "{} is used twice", code.id);
            assert!(code.id.len() == 6 && code.id.starts_with("HD"), "{}", code.id);
            assert!(code.explain.len() > 80 && code.explain.ends_with('.'), "{} explains too little", code.id);
        }
    }

    #[test]
    fn what_is_not_here_is_not_found() {
        let path = std::path::Path::new("/no/such/file");
        let error = std::fs::File::open(path).unwrap_err();
        let fault = Fault::io(path, "opening the file", &error);
        assert_eq!((fault.code.id, fault.exit()), ("HD1004", 3));
    }

    #[test]
    fn a_fault_says_everything_in_both_forms() {
        let fault = Fault::new(&RECEIPT_FALSE, "step 3, checkpoint", "ask for a new receipt")
            .at("r.receipt")
            .between("aa", "bb");
        let text = fault.to_string();
        for part in ["HD5001", "step 3", "r.receipt", "expected: aa", "found: bb", "do: ask"] {
            assert!(text.contains(part), "{part:?} is missing from {text}");
        }
        let error = &fault.json()["error"];
        assert_eq!(error["kind"], "verification_false");
        assert_eq!(error["retryable"], false);
        assert_eq!(error["expected"], "aa");
        assert_eq!(fault.exit(), 6);
    }
}
