//! Bytes as a sequence of choices.

/// What is left of a target's input. Past its end everything is zero.
pub(super) struct Script<'i> {
    rest: &'i [u8],
}

impl<'i> Script<'i> {
    pub(super) fn new(input: &'i [u8]) -> Self {
        Self { rest: input }
    }

    pub(super) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `bound`, which is 1 to 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The next bytes, as far as there are any.
    pub(super) fn bytes(&mut self, count: usize) -> &'i [u8] {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    pub(super) fn rest(self) -> &'i [u8] {
        self.rest
    }
}
