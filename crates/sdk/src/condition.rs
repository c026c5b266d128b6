//! Change an object only if it is what its writer believes.

use crate::fault::Fault;
use hodei_storage::index::Entry;

/// Which etag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    Any,
    /// Without quotes.
    Is(String),
}

/// What must hold when the index is swapped; all of what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The newest version has it.
    pub matches: Option<Tag>,
    /// The newest version has it not; with [`Tag::Any`] there is none.
    pub differs: Option<Tag>,
    /// Unix seconds of the last change.
    pub modified_secs: Option<u64>,
    pub size_bytes: Option<u64>,
}

impl Tag {
    fn fits(&self, entry: &Entry) -> bool {
        match self {
            Self::Any => true,
            Self::Is(etag) => *etag == entry.etag,
        }
    }
}

impl Condition {
    /// Only if the key is free.
    pub fn absent() -> Self {
        Self { differs: Some(Tag::Any), ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Judges what is there; `NoObject` if something must be there and is not.
    pub(crate) fn judge(&self, found: Option<&Entry>, bucket: &str, key: &str) -> Result<(), Fault> {
        let place = || (bucket.to_owned(), key.to_owned());
        let Some(entry) = found else {
            if self.matches.is_some() || self.modified_secs.is_some() || self.size_bytes.is_some() {
                let (bucket, key) = place();
                return Err(Fault::NoObject { bucket, key });
            }
            return Ok(());
        };
        if self.differs == Some(Tag::Any) {
            let (bucket, key) = place();
            return Err(Fault::ObjectExists { bucket, key });
        }
        let holds = self.matches.as_ref().is_none_or(|tag| tag.fits(entry))
            && !self.differs.as_ref().is_some_and(|tag| tag.fits(entry))
            && self.modified_secs.is_none_or(|secs| secs == entry.modified_ms / 1000)
            && self.size_bytes.is_none_or(|size| size == entry.size_bytes());
        if holds {
            return Ok(());
        }
        let (bucket, key) = place();
        Err(Fault::Condition { bucket, key })
    }
}
