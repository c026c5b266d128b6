//! Read and show amounts as people write them: `64MiB`, `0.25`, `90s`.

/// How amounts of one kind are written.
pub(super) struct Unit {
    /// For who wrote something else.
    pub(super) written: &'static str,
    /// Endings with what they stand for, the largest last; none for thousandths after a point.
    endings: &'static [(&'static str, u64)],
}

pub(super) const SIZE: Unit = Unit {
    written: "a number and KiB, MiB, GiB or TiB, as \"64MiB\"",
    endings: &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)],
};
/// Seconds.
pub(super) const TIME: Unit = Unit {
    written: "a number and s, m, h or d, as \"90s\" or \"24h\"",
    endings: &[("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)],
};
/// Bits a second.
pub(super) const RATE: Unit = Unit {
    written: "a number and kbit, Mbit or Gbit, as \"8Mbit\"",
    endings: &[("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)],
};
/// Thousandths of a CPU.
pub(super) const CPU: Unit = Unit { written: "CPUs, as \"2\" or \"0.25\"", endings: &[] };

impl Unit {
    /// None for what is written otherwise, or is beyond all amounts.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        if self.endings.is_empty() {
            return thousandths(text);
        }
        let of = |(ending, scale): &(&str, u64)| digits(text.strip_suffix(ending)?)?.checked_mul(*scale);
        if text == "0" { Some(0) } else { self.endings.iter().find_map(of) }
    }

    /// As it would be read, in quotes.
    pub(super) fn show(&self, value: u64) -> String {
        if self.endings.is_empty() {
            let text = format!("{}.{:03}", value / 1000, value % 1000);
            return format!("{:?}", text.trim_end_matches('0').trim_end_matches('.'));
        }
        let whole = self.endings.iter().rev().find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale));
        match whole {
            Some((ending, scale)) => format!("\"{}{ending}\"", value / scale),
            // Below the least unit only: rounded up.
            None => match self.endings.first() {
                Some((ending, scale)) if value > 0 => format!("\"{}{ending}\"", value.div_ceil(*scale)),
                _ => "\"0\"".to_owned(),
            },
        }
    }
}

/// Coins that are nearest to what is none; nothing of them where they need not be said.
pub(super) fn coins(key: &str, text: &str) -> String {
    let text = text.trim().replace(',', ".");
    let number = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next().unwrap_or_default();
    match crate::wallet::parse_coins(number).filter(|wei| wei.bit_len() <= 120) {
        Some(_) => format!("{number:?}"),
        None if key == "collateral_min" => "\"0\"".to_owned(),
        None => format!("one without {key}"),
    }
}

/// Countries of three letters whose two are not the first of these (ISO 3166).
const THREE: [&str; 40] = [
    "ANDAD", "AREAE", "ARMAM", "AGOAO", "AUTAT", "BGDBD", "BLRBY", "BENBJ", "BIHBA", "CAFCF", "TCDTD", "CHLCL",
    "CHNCN", "DNKDK", "ESTEE", "IRQIQ", "IRLIE", "ISRIL", "JAMJM", "KAZKZ", "KORKR", "PRKKP", "MDGMG", "MLTMT",
    "MEXMX", "MDAMD", "MNEME", "MARMA", "MOZMZ", "PAKPK", "PRYPY", "POLPL", "PRTPT", "SRBRS", "SVKSK", "SVNSI",
    "SWESE", "TUNTN", "TURTR", "UKRUA",
];

/// The two capitals that two or three letters mean.
pub(super) fn country(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let is_short = (2..=3).contains(&upper.len()) && upper.bytes().all(|byte| byte.is_ascii_uppercase());
    let two = THREE.iter().find_map(|row| row.strip_prefix(&upper[..]).filter(|two| two.len() == 2));
    is_short.then(|| format!("{:?}", two.unwrap_or(&upper[..2])))
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// What has at most three digits after its point, in thousandths.
pub(crate) fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.len() > 3 {
        return None;
    }
    let part = digits(part)? * 10u64.pow(3 - part.len() as u32);
    digits(whole)?.checked_mul(1000)?.checked_add(part)
}

/// `24h`, `90s`: how long something is, for people.
pub fn span(secs: u64) -> String {
    TIME.show(secs).trim_matches('"').to_owned()
}

/// Seconds of what is written as `90s` or `24h`; what is written otherwise says how it is.
pub fn secs(text: &str) -> Result<u64, String> {
    TIME.read(text).filter(|secs| *secs > 0).ok_or_else(|| TIME.written.to_owned())
}

/// `64MiB`.
pub fn size(bytes: u64) -> String {
    SIZE.show(bytes).trim_matches('"').to_owned()
}

/// `0.25`.
pub fn cpus(milli: u64) -> String {
    CPU.show(milli).trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_return_as_they_were_written() {
        for (unit, text, value) in [
            (&SIZE, "64MiB", 64 << 20),
            (&SIZE, "3TiB", 3 << 40),
            (&SIZE, "0", 0),
            (&RATE, "8Mbit", 8_000_000),
            (&TIME, "90s", 90),
            (&TIME, "36h", 36 * 3600),
            (&TIME, "7d", 7 * 86_400),
            (&CPU, "2", 2000),
            (&CPU, "0.25", 250),
            (&CPU, "0.01", 10),
        ] {
            assert_eq!(unit.read(text), Some(value), "{text}");
            assert_eq!(unit.show(value), format!("{text:?}"));
        }
        assert_eq!((TIME.show(61), SIZE.show(1)), ("\"61s\"".into(), "\"1KiB\"".into()));
    }

    #[test]
    fn other_spellings_are_none() {
        for text in ["", "64", "64MB", "MiB", "-1MiB", "1.5GiB", "99999999999TiB", " 1MiB"] {
            assert_eq!(SIZE.read(text), None, "{text:?}");
        }
        for text in ["", ".5", "1.", "1.2345", "-1", "1e3", "+1"] {
            assert_eq!(CPU.read(text), None, "{text:?}");
        }
    }
}
