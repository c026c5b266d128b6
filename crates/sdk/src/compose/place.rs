//! Read `x-hodei`: where services may run and for how much, in the words of `app.toml`.

use super::{
    amount::{SIZE, size_bytes},
    at::At,
    broken::{Broken, Note},
    keys,
};
use crate::app::{Draft, Lines};

/// What docker has no word for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hodei {
    /// Regions, prices and terms; nothing of it is checked yet, as of an `app.toml`.
    pub terms: Draft,
    /// On which line each key of the terms stands.
    pub lines: Lines,
    /// Bytes of each volume that says no size itself.
    pub volume: Option<u64>,
    pub standby: Option<Standby>,
}

/// What is held ready for a replica that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby {
    /// Nothing: another is placed then.
    Cold,
    /// One that is created and not started.
    Warm,
}

impl Hodei {
    /// The same, with what only the whole file says.
    pub(super) fn or(self, file: &Self) -> Self {
        let mut lines = file.lines.clone();
        lines.extend(self.lines);
        Self {
            terms: self.terms.or(file.terms.clone()),
            lines,
            volume: self.volume.or(file.volume),
            standby: self.standby.or(file.standby),
        }
    }
}

const LIMIT_MAX: u64 = 64;

pub(super) fn hodei(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Hodei, Broken> {
    let mut hodei = Hodei::default();
    let terms = &mut hodei.terms;
    let mut spread = None;
    for (key, at) in at.fields(&keys::PLACE, notes)? {
        let text = || at.said().map(|text| Some(text.to_owned()));
        match key {
            "regions" => {
                let regions = at.one_or_more()?;
                terms.regions = Some(regions.iter().map(|at| at.said().map(str::to_owned)).collect::<Result<_, _>>()?);
            }
            "country" => terms.country = text()?,
            "price_max" => terms.price_max = text()?,
            "per_host" => terms.per_host = Some(at.number(0..=LIMIT_MAX)?),
            "per_operator" => terms.per_operator = Some(at.number(0..=LIMIT_MAX)?),
            "per_network" => terms.per_network = Some(at.number(0..=LIMIT_MAX)?),
            "class" => terms.class = text()?,
            "patience" => terms.patience = text()?,
            "term" => terms.term = text()?,
            "budget" => terms.budget = text()?,
            "collateral_min" => terms.collateral_min = text()?,
            "within" => terms.within = Some(at.number(1..=u64::MAX)?),
            "availability" => terms.availability = text()?,
            "disk" => terms.disk = text()?,
            "snapshot" => terms.snapshot = text()?,
            "bucket" => terms.bucket = text()?,
            "volume" => hodei.volume = Some(at.read(size_bytes, SIZE)?),
            "port" => terms.port = Some(at.number(0..=u64::from(u16::MAX))?),
            "bandwidth" => terms.bandwidth = text()?,
            "transfer" => terms.transfer = text()?,
            "tier" => terms.tier = text()?,
            "renewable" => terms.renewable = Some(at.number(0..=100)?),
            "standby" => hodei.standby = Some(at.one_of(&[("cold", Standby::Cold), ("warm", Standby::Warm)])?),
            _ => {
                spread = Some(at);
                continue;
            }
        }
        hodei.lines.insert(key.to_owned(), at.line);
    }
    for at in spread.iter().map(At::one_or_more).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        let key = at.one_of(&[("host", "per_host"), ("operator", "per_operator"), ("network", "per_network")])?;
        let limit = match key {
            "per_host" => &mut hodei.terms.per_host,
            "per_operator" => &mut hodei.terms.per_operator,
            _ => &mut hodei.terms.per_network,
        };
        if limit.is_some_and(|limit| limit != 1) {
            let rule = format!("{key} says how many there may be already: say one of both");
            return Err(at.broken(rule, Some(format!("{key}: 1"))));
        }
        *limit = Some(1);
        hodei.lines.insert(key.to_owned(), at.line);
    }
    Ok(hodei)
}
