//! Random faults: each request goes wrong with a small chance, in one of the ways of bad links and busy registries. For
//! runs that are long enough to meet them all.

use std::time::Duration;

use super::fault::What;

/// The chance of a fault, and the random numbers.
#[derive(Debug)]
pub(super) struct Weather {
    /// Chance of a fault in one request, in millionths.
    chance: u64,
    dice: Dice,
}

impl Weather {
    pub(super) fn new(chance: f64, seed: u64) -> Self {
        // Between 0 and a million, whatever the float.
        let chance = (chance.clamp(0.0, 1.0) * 1e6) as u64;
        Self { chance, dice: Dice(seed) }
    }

    /// Returns the fault for the next request, if any.
    pub(super) fn draw(&mut self) -> Option<What> {
        let dice = &mut self.dice;
        if dice.below(1_000_000) >= self.chance {
            return None;
        }
        let somewhere = [64, 4 << 10, 256 << 10, 4 << 20][dice.below(4) as usize];
        let somewhere = dice.below(somewhere);
        Some(match dice.below(13) {
            0 => What::Status([500, 502, 503, 504][dice.below(4) as usize]),
            1 => What::StatusWith { status: 429, retry_after: Some("1".into()) },
            2 => What::ResetBefore,
            3 => What::ResetAfter,
            4 | 5 => What::CutBody { after: somewhere },
            6 => What::CutRequest { after: somewhere },
            7 => What::FlipBit { at: somewhere },
            8 => What::FlipRequestBit { at: somewhere },
            9 => What::WrongLength,
            10 => What::Truncate { to: somewhere },
            11 => What::Delay(Duration::from_millis(50 + dice.below(450))),
            _ => What::Html,
        })
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the same seed gives the
/// same faults.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_goes_wrong_as_was_asked_for_and_the_same_each_time() {
        let count = |chance| {
            let mut weather = Weather::new(chance, 7);
            (0..100_000).filter(|_| weather.draw().is_some()).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 100_000));
        assert!((1_850..2_150).contains(&count(0.02)), "{}", count(0.02));
        let told = || {
            let mut weather = Weather::new(0.5, 7);
            (0..100).map(|_| format!("{:?}", weather.draw())).collect::<Vec<_>>()
        };
        assert_eq!(told(), told());
    }
}
