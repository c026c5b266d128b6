//! Tell whoever has a paid pass what its tab pays to whom.
//!
//! The leaves of all tabs of a share are alike but for their chains, which follow from each pass's own seed: so they
//! stand once, behind the record. Length u32, big-endian, and canonical CBOR; zeros, which fill a record, are none.

use super::ShareError;
use hodei_types::{
    cbor::{Reader, Writer},
    tab::{LEAVES_MAX, TICKS_MAX},
    transport::NodeKey,
};

/// Leaves of a tab.
pub const FARES_MAX: usize = LEAVES_MAX;

/// One leaf of a tab, without its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fare {
    pub node: NodeKey,
    /// MiB.
    pub ticks: u32,
    /// Wei for each.
    pub price: u128,
}

/// In the order of the leaves; none take no bytes.
pub fn encode(fares: &[Fare]) -> Result<Vec<u8>, ShareError> {
    if fares.is_empty() {
        return Ok(Vec::new());
    }
    if fares.len() > FARES_MAX {
        return Err(ShareError::Shape("a tab has at most 1,024 leaves"));
    }
    let mut out = Writer::new();
    out.array(fares.len() * 3);
    for fare in fares {
        out.bytes(&fare.node.0).uint(fare.ticks.into()).bytes(&fare.price.to_be_bytes());
    }
    let body = out.finish();
    Ok([&(body.len() as u32).to_be_bytes()[..], &body].concat())
}

/// What [`encode`] wrote, whatever follows it.
pub fn decode(bytes: &[u8]) -> Result<Vec<Fare>, ShareError> {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Ok(Vec::new()) };
    let len = u32::from_be_bytes(*len) as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    let mut input = Reader::new(rest.get(..len).ok_or(ShareError::Shape("length of the fares"))?);
    let values = input.array(FARES_MAX * 3)?;
    if !values.is_multiple_of(3) {
        return Err(ShareError::Shape("a fare has 3 values"));
    }
    let mut fares = Vec::new();
    for _ in 0..values / 3 {
        let (node, ticks) = (NodeKey(input.fixed()?), input.uint()?);
        let ticks = u32::try_from(ticks).ok().filter(|ticks| (1..=TICKS_MAX).contains(ticks));
        let ticks = ticks.ok_or(ShareError::Shape("ticks of a fare"))?;
        fares.push(Fare { node, ticks, price: u128::from_be_bytes(input.fixed()?) });
    }
    input.end()?;
    Ok(fares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fares_return_and_what_is_none_is_refused() {
        let fare = |at: u8| Fare { node: NodeKey([at; 32]), ticks: TICKS_MAX, price: u128::MAX - u128::from(at) };
        for count in [1, 3, FARES_MAX] {
            let fares: Vec<Fare> = (0..count).map(|at| fare(at as u8)).collect();
            let mut bytes = encode(&fares).unwrap();
            for at in 0..bytes.len().min(200) {
                assert_ne!(decode(&bytes[..at]).ok().as_ref(), Some(&fares), "cut at {at}");
            }
            bytes.resize(bytes.len() + 40, 0);
            assert_eq!(decode(&bytes), Ok(fares));
        }
        for none in [&[][..], &[0; 3], &[0; 400]] {
            assert_eq!(decode(none), Ok(vec![]));
        }
        assert_eq!(encode(&[]), Ok(vec![]));
        encode(&vec![fare(1); FARES_MAX + 1]).unwrap_err();
        for ticks in [0, TICKS_MAX + 1] {
            decode(&encode(&[Fare { ticks, ..fare(1) }]).unwrap()).unwrap_err();
        }
        decode(&[0, 0, 0, 2, 0x81, 0]).unwrap_err();
    }
}
