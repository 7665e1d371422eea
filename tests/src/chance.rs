//! Chance that is the same in every run.

/// A seeded generator (SplitMix64). Tests that draw say their seed in their failure.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The same seed gives the same draws.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number from `least` to `most`.
    ///
    /// # Panics
    /// `most` is less than `least`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        assert!(least <= most, "there is nothing between {least} and {most}");
        // That some are more likely by a tiny bit does not matter here.
        least + self.draw() % (most - least + 1)
    }

    /// Whether something happens that happens in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    /// One of some things.
    ///
    /// # Panics
    /// There is none.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        let place = self.between(0, things.len() as u64 - 1);
        &things[usize::try_from(place).expect("it is the place of a thing")]
    }

    /// A generator of its own, for something that draws at the same time.
    pub fn branch(&mut self) -> Self {
        Self::new(self.draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_draws_within_their_bounds() {
        let draws = |seed| {
            let mut chance = Chance::new(seed);
            (0..1_000).map(|_| chance.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        for wanted in 3..=9 {
            assert!(draws(1).contains(&wanted));
        }
        assert!(draws(1).iter().all(|drawn| (3..=9).contains(drawn)));
    }
}
