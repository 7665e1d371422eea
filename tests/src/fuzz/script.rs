//! Bytes as a sequence of choices.

/// Most steps of one play: long scripts are slow, and find little that short ones do not.
const MAX_STEPS: usize = 300;

/// Something that a script plays with.
pub(super) trait Play {
    /// What there is at first. What this takes from the script is not there for the steps.
    fn begin(script: &mut Script<'_>) -> Self;

    /// What the script says next.
    fn step(&mut self, script: &mut Script<'_>);

    /// What follows from a step.
    fn follow(&mut self);

    /// The script is over: what has to hold then.
    fn end(&mut self);
}

/// Plays a script to its end.
pub(super) fn play<P: Play>(input: &[u8]) {
    let mut script = Script::new(input);
    let mut play = P::begin(&mut script);
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        play.step(&mut script);
        play.follow();
    }
    play.end();
}

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
