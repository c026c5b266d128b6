//! Compute how many windows a liar gets, from what it lacks alone.

use hodei_types::abi::SAMPLES;

/// Windows of a row that has to be missed: until a tenth is taken, and until all is.
pub(crate) const PART: u32 = 3;
pub(crate) const ALL: u32 = 10;

/// Odds that a window draws at least one of what is lost, where a share `lost` of the leaves is: leaves are drawn with
/// replacement, each alike.
pub(crate) fn drawn(lost: f64) -> f64 {
    1.0 - (1.0 - lost).powi(SAMPLES as i32)
}

/// Mean and standard deviation of windows until the first `row` in a row that draw something lost (Feller, An
/// Introduction to Probability Theory, XIII.7); with a row of one, the geometric law.
pub(crate) fn windows(lost: f64, row: u32) -> (f64, f64) {
    let (p, r) = (drawn(lost), f64::from(row));
    let q = 1.0 - p;
    if q < 1e-12 {
        return (r, 0.0);
    }
    let all = p.powi(row as i32);
    let mean = (1.0 - all) / (q * all);
    let variance = 1.0 / (q * all).powi(2) - (2.0 * r + 1.0) / (q * all) - p / (q * q);
    (mean, variance.max(0.0).sqrt())
}

/// Odds that such a row is over within so many windows.
pub(crate) fn within(lost: f64, row: u32, windows: u64) -> f64 {
    let p = drawn(lost);
    // Odds to stand at each length of a row, and to have had a whole one.
    let (mut at, mut done) = (vec![0.0; row as usize], 0.0);
    at[0] = 1.0;
    for _ in 0..windows {
        done += at[row as usize - 1] * p;
        let rest: f64 = at.iter().sum();
        at.rotate_right(1);
        at.iter_mut().for_each(|odds| *odds *= p);
        at[0] = rest * (1.0 - p);
    }
    done
}

#[test]
fn a_row_of_one_is_the_geometric_law_and_longer_ones_are_what_playing_gives() {
    for lost in [0.01, 0.05, 0.25] {
        let p = drawn(lost);
        let (mean, deviation) = windows(lost, 1);
        assert!((mean - 1.0 / p).abs() < 1e-9 && (deviation - (1.0 - p).sqrt() / p).abs() < 1e-6);
    }
    // By another way: the distribution stepped window by window, for a row of three.
    let (mut mean, mut square, mut before) = (0.0, 0.0, 0.0);
    for window in 1..400u32 {
        let now = within(0.05, 3, window.into());
        mean += f64::from(window) * (now - before);
        square += f64::from(window).powi(2) * (now - before);
        before = now;
    }
    let (computed, deviation) = windows(0.05, 3);
    assert!((computed - mean).abs() < 1e-6, "{computed} {mean}");
    assert!((deviation - (square - mean * mean).sqrt()).abs() < 1e-4, "{deviation}");
    assert!((within(0.01, 1, 7) - 0.755).abs() < 1e-3, "a week of daily windows");
    assert_eq!((within(1.0, 3, 2), within(1.0, 3, 3)), (0.0, 1.0));
}
