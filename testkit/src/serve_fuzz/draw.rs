//! Numbers drawn from a seed: the same for each request, independent of earlier ones.

/// A sequence of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of one request: number `number` of client `client`.
    pub fn new(seed: u64, client: u64, number: u64) -> Self {
        let mut draw = Self(seed);
        for part in [client, number] {
            draw = Self(draw.next() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        draw
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of them; there is at least one.
    pub fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// One of them, if there is one.
    pub fn one<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Mostly small, now and then larger than one buffer, seldom a megabyte.
    pub fn size(&mut self) -> usize {
        match self.below(100) {
            0..5 => 0,
            5..80 => self.below(2_000),
            80..97 => self.below(80_000),
            97..99 => self.below(300_000),
            _ => self.below(1_200_000),
        }
    }
}
