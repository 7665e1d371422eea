//! Who a peer is, and what it may do.
//!
//! The one door: a Hello becomes a [`Grant`] here or is refused, every message of a peer that may not do everything is
//! looked at here, and the names that it may touch are asked for here. Names that it may not touch do not exist for it:
//! whoever finds jobs for a peer goes through [`Machine::visible`], asks [`Machine::may_touch`], or compares with
//! [`Machine::names_of`].

use std::sync::Arc;
use std::time::Duration;

use jobq_proto::message::Hello;
use jobq_proto::{ErrorCode, ServerMessage, WireError};
use jobq_transport::{CloseReason, PeerId};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::failures::Failures;
use super::names::NameKey;
use super::{Config, Machine, Map};
use crate::access::{NamePatterns, Proof, Scope, Token, TokenHash, Tokens};
use crate::store::JobState;
use crate::time::{Mono, Now, Wall};

/// How often it is looked at whether tokens in use have expired: the calendar may have been set.
const EXPIRY_CHECK: Duration = Duration::from_secs(60);

/// Who is let in.
pub(super) struct Access {
    /// Of the token that everybody may show.
    shared: Option<TokenHash>,
    /// Those that were made one by one; none where there is no list.
    tokens: Option<Tokens>,
    /// Whether a transport asks for certificates.
    certificates: bool,
    /// Tokens that were not accepted.
    failures: Failures,
    /// When it is looked again whether tokens in use have expired.
    check_at: Option<Mono>,
}

/// What a peer may do, and by what it has shown to be who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    credential: Credential,
    scope: Scope,
    only: NamePatterns,
    expires: Option<Wall>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    /// Nothing is asked for.
    None,
    /// The token that all share.
    Shared,
    /// A token of its own.
    Token { name: Arc<str>, hash: TokenHash },
    /// A certificate of this name.
    Certificate(Arc<str>),
}

/// A first message that is answered later, since tokens from the same place were wrong a moment ago.
pub(super) enum Waiting {
    /// It showed the shared token.
    Hello(Box<Hello>),
    /// It showed a wrong one.
    Refusal,
}

impl Access {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            shared: config.token.as_deref().map(TokenHash::of),
            tokens: config.tokens.clone(),
            certificates: config.certificates,
            failures: Failures::default(),
            check_at: None,
        }
    }

    /// Whether anybody is asked who they are.
    fn asks(&self) -> bool {
        self.shared.is_some() || self.tokens.is_some() || self.certificates
    }

    /// What a peer may do that shows this. A token counts for more than a certificate, since who gives one means it.
    fn grant(&self, token: Option<&str>, certificate: Option<&str>, now: Wall) -> Option<Grant> {
        if !self.asks() {
            return Some(Grant::everything(Credential::None));
        }
        match (token, certificate) {
            (Some(token), _) => self.grant_token(TokenHash::of(token), now),
            (None, Some(name)) => self.grant_certificate(name, now),
            (None, None) => None,
        }
    }

    /// Every token there is gets compared, each in the same time, whichever it is: what can be measured from outside
    /// says neither that a token is nearly right, nor which it is.
    fn grant_token(&self, shown: TokenHash, now: Wall) -> Option<Grant> {
        let entries = self.tokens.as_ref().map(Tokens::entries).unwrap_or_default();
        let mut found = u32::MAX;
        for (place, entry) in (0..).zip(entries) {
            if let Proof::Token(hash) = &entry.proof {
                found.conditional_assign(&place, hash.ct_eq(&shown));
            }
        }
        self.grant_entry(shown, entries.get(found as usize), now)
    }

    /// What the holder of a token may do that has this entry, or may be the shared one.
    fn grant_entry(&self, shown: TokenHash, entry: Option<&Token>, now: Wall) -> Option<Grant> {
        let is_shared = self.shared.is_some_and(|shared| shared.ct_eq(&shown).into());
        if let Some(entry) = entry.filter(|entry| entry.is_valid(now)) {
            let name = entry.name.as_str().into();
            return Some(Grant::of(Credential::Token { name, hash: shown }, entry));
        }
        is_shared.then(|| Grant::everything(Credential::Shared))
    }

    /// The entries that have a token, by its hash.
    fn by_hash(&self) -> Map<[u8; 32], &Token> {
        let entries = self.tokens.as_ref().map(Tokens::entries).unwrap_or_default();
        let with_hash = entries.iter().filter_map(|entry| match &entry.proof {
            Proof::Token(hash) => Some((*hash.as_bytes(), entry)),
            Proof::Certificate => None,
        });
        with_hash.collect()
    }

    /// Where there is no list, whom the CA of client certificates has vouched for may do everything; where there is
    /// one, those with an entry. That the list has no certificates (any more) opens nothing: revoking the last one must
    /// not.
    fn grant_certificate(&self, name: &str, now: Wall) -> Option<Grant> {
        let credential = Credential::Certificate(name.into());
        let Some(tokens) = &self.tokens else {
            return Some(Grant::everything(credential));
        };
        let is_its =
            |entry: &&Token| entry.proof == Proof::Certificate && entry.name == name && entry.is_valid(now);
        let entry = tokens.entries().iter().find(is_its)?;
        Some(Grant::of(credential, entry))
    }

    /// What whoever has shown this may do now. That a token was good is known, so its entry is looked up: ten thousand
    /// peers are not compared with a thousand tokens each.
    fn grant_again(
        &self,
        credential: &Credential,
        by_hash: &Map<[u8; 32], &Token>,
        now: Wall,
    ) -> Option<Grant> {
        match credential {
            Credential::None => (!self.asks()).then(|| Grant::everything(Credential::None)),
            Credential::Shared => self.shared.map(|_| Grant::everything(Credential::Shared)),
            Credential::Token { hash, .. } => {
                self.grant_entry(*hash, by_hash.get(hash.as_bytes()).copied(), now)
            }
            Credential::Certificate(name) => self.grant_certificate(name, now),
        }
    }

    /// When [`Machine::check_grants`] is due.
    pub(super) fn next_check(&self) -> Option<Mono> {
        self.check_at
    }

    fn check_when_expired(&mut self, expires: Option<Wall>, now: Now) {
        let Some(expires) = expires else { return };
        let at = now.mono.plus(expires.since(now.wall).min(EXPIRY_CHECK));
        self.check_at = Some(self.check_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Grant {
    fn everything(credential: Credential) -> Self {
        Self {
            credential,
            scope: Scope::Admin,
            only: NamePatterns::all(),
            expires: None,
        }
    }

    fn of(credential: Credential, entry: &Token) -> Self {
        Self {
            credential,
            scope: entry.scope,
            only: entry.only.clone(),
            expires: entry.expires,
        }
    }

    /// Whether it may do all there is, with jobs of all names: nothing has to be looked at.
    pub(super) fn is_unlimited(&self) -> bool {
        self.scope == Scope::Admin && self.only.are_all()
    }

    /// Whether it may touch jobs of a name.
    pub(super) fn may_touch(&self, name: &str) -> bool {
        self.only.match_name(name)
    }

    /// Whether it may take and settle jobs.
    pub(super) fn allows_work(&self) -> bool {
        self.allows(Scope::Work)
    }

    fn allows(&self, scope: Scope) -> bool {
        self.scope == scope || self.scope == Scope::Admin
    }

    /// Whose the session is that it opens. Tokens of one name can take each other's place; where nothing is shown, or
    /// what all show, it is nobody's in particular.
    fn identity(&self) -> (&'static str, &str) {
        match &self.credential {
            Credential::None | Credential::Shared => ("", ""),
            Credential::Token { name, .. } => ("token:", name),
            Credential::Certificate(name) => ("certificate:", name),
        }
    }

    /// What is kept of a session's secret. Whose the session is is part of it, so that the secret alone, shown by
    /// somebody else, is another one's.
    pub(super) fn hash_secret(&self, secret: &[u8]) -> [u8; 32] {
        let (kind, name) = self.identity();
        let hash = Sha256::new().chain_update(secret).chain_update(kind);
        hash.chain_update(name).finalize().into()
    }
}

impl Machine {
    /// Looks who says Hello, and lets the peer in, or not; at once as a rule.
    ///
    /// Wrong tokens from one place are answered later and later. So is the shared token from there: it may be one that
    /// a person made up, and an answer that only wrong ones have to wait for would tell them apart at once. Where more
    /// are shown than get a turn, the others are sent away, right or wrong. A token of its own never waits, nor does who
    /// goes on with a session: 256 random bits cannot be guessed at any speed. So what others try holds up nobody but
    /// who shows the shared token from the same place.
    pub(super) fn knock(&mut self, peer: PeerId, hello: Hello) {
        let now = self.now;
        let Some(grant) = self.grant_for(peer, &hello) else {
            let wait = match self.peers.find(peer) {
                Some(known) if hello.token.is_some() => self.access.failures.note(&known.info, now.mono),
                // Without a token nothing was tried.
                Some(_) => Some(Duration::ZERO),
                None => return,
            };
            return self.answer_later(peer, wait, Waiting::Refusal);
        };
        let may_be_guessed = grant.credential == Credential::Shared
            && hello
                .resume
                .as_ref()
                .is_none_or(|resume| self.resumable(resume, &grant, hello.work.is_some()).is_none());
        let wait = match self.peers.find(peer).filter(|_| may_be_guessed) {
            Some(known) => self.access.failures.wait(&known.info, now.mono),
            None => Some(Duration::ZERO),
        };
        self.answer_later(peer, wait, Waiting::Hello(Box::new(hello)));
    }

    /// Answers when the wait is over; none is a peer without a turn.
    fn answer_later(&mut self, peer: PeerId, wait: Option<Duration>, waiting: Waiting) {
        // Whoever waits has the place of somebody who could be let in.
        let is_full = self.timers.late_answers() >= self.config.late_answers;
        let Some(wait) = wait.filter(|wait| wait.is_zero() || !is_full) else {
            return self.refuse_peer(peer, no_turn());
        };
        let Some(known) = self.peers.find(peer) else {
            return;
        };
        known.waiting = Some(waiting);
        if wait.is_zero() {
            self.answer_hello(peer);
        } else {
            self.timers.answer_hello(self.now.mono.plus(wait), peer);
        }
    }

    /// The wait is over. What was good when it began may have been revoked meanwhile.
    pub(super) fn answer_hello_now(&mut self, peer: PeerId) {
        let Some(waiting) = self.peers.find(peer).and_then(|known| known.waiting.take()) else {
            return;
        };
        let granted = match waiting {
            Waiting::Refusal => None,
            Waiting::Hello(hello) => self.grant_for(peer, &hello).map(|grant| (hello, grant)),
        };
        let Some((hello, grant)) = granted else {
            return self.refuse_peer(peer, bad_token());
        };
        if hello.work.is_some() && !grant.allows_work() {
            let error = forbidden("this token is not for work: its scope is submit");
            return self.refuse_peer(peer, error);
        }
        self.access.check_when_expired(grant.expires, self.now);
        self.welcome(peer, *hello, Arc::new(grant));
    }

    /// What a peer may do that says this Hello.
    pub(super) fn grant_for(&mut self, peer: PeerId, hello: &Hello) -> Option<Grant> {
        let known = self.peers.find(peer)?;
        let certificate = known.info.identity.as_deref();
        self.access
            .grant(hello.token.as_deref(), certificate, self.now.wall)
    }

    /// Whether a peer may send this. One that may not is told so.
    pub(super) fn may_send(&mut self, peer: PeerId, grant: &Grant, message: &ServerMessage) -> bool {
        use ServerMessage as M;
        let (request, scope) = match message {
            M::Request(request) => (request.request, Scope::Submit),
            M::Cancel(cancel) => (cancel.request, Scope::Submit),
            M::Retry(retry) => (retry.request, Scope::Submit),
            M::Backup(backup) => (backup.request, Scope::Admin),
            M::BackupRead(read) => (read.request, Scope::Admin),
            M::BackupDone(done) => (done.request, Scope::Admin),
            // Looking is for everybody.
            M::Query(_) | M::Watch(_) | M::Unwatch(_) | M::Stats(_) | M::Beat(_) | M::Goodbye(_) => {
                return true;
            }
            // What only workers send is refused to a session that is no worker's.
            M::Credit(_) | M::Holding(_) | M::Started(_) | M::Progress(_) => return true,
            M::Completed(_) | M::Failed(_) | M::Released(_) => return true,
            // A second Hello is an error of its own.
            M::Hello(_) => return true,
            // What is added to the protocol is for nobody with limits until it stands above.
            _ => {
                let error = forbidden("this token is not for messages of this kind");
                self.refuse_peer(peer, error);
                return false;
            }
        };
        // A backup has the jobs of all names in it.
        if grant.allows(scope) && (scope != Scope::Admin || grant.only.are_all()) {
            return true;
        }
        let error = forbidden(match scope {
            Scope::Admin => {
                "a backup is for tokens of the scope admin that may touch jobs of all names".to_owned()
            }
            _ => format!(
                "this token is not for submitting, cancelling or retrying: its scope is {}",
                grant.scope
            ),
        });
        self.refuse(peer, request, error);
        false
    }

    /// The job names that a peer may touch.
    pub(super) fn names_of(&mut self, peer: PeerId) -> NamePatterns {
        let grant = self.peers.find(peer).and_then(|known| known.grant.as_ref());
        grant.map(|grant| grant.only.clone()).unwrap_or_default()
    }

    /// Whether nothing has to be kept from a peer.
    pub(super) fn may_touch_all(&mut self, peer: PeerId) -> bool {
        self.names_of(peer).are_all()
    }

    /// Whether a peer may touch jobs of a name.
    pub(super) fn may_touch(&mut self, peer: PeerId, name: NameKey) -> bool {
        let only = self.names_of(peer);
        only.are_all() || only.match_name(self.names.name(name).as_str())
    }

    /// Where jobs stand, as far as a peer may know of them: the others do not exist for it.
    pub(super) fn visible(
        &mut self,
        peer: PeerId,
        mut states: Vec<Option<JobState>>,
    ) -> Vec<Option<JobState>> {
        let only = self.names_of(peer);
        if !only.are_all() {
            for state in &mut states {
                *state = state.take().filter(|state| only.match_name(state.name()));
            }
        }
        states
    }

    /// Other tokens count from now on. Whoever came with one that is still good notices nothing; the others'
    /// connections are closed, and what they work on waits as long as after any other end of a connection.
    pub fn handle_tokens(&mut self, now: Now, tokens: Option<Tokens>) {
        self.tick(now);
        self.access.tokens = tokens;
        self.check_grants();
        self.dispatch();
    }

    /// Looks at everybody who is there: whether they still may do what they could when they came.
    pub(super) fn check_grants(&mut self) {
        self.access.check_at = None;
        let by_hash = self.access.by_hash();
        let mut news = Vec::new();
        for peer in self.peers.ids() {
            if let Some(old) = self.peers.find(peer).and_then(|known| known.grant.clone()) {
                let new = self.access.grant_again(&old.credential, &by_hash, self.now.wall);
                news.push((peer, old, new));
            }
        }
        for (peer, old, new) in news {
            let Some(new) = new else {
                self.revoke(peer, bad_token());
                continue;
            };
            if (new.scope, &new.only) != (old.scope, &old.only) {
                // It comes back at once, and finds what it may do now.
                let error = WireError::new(ErrorCode::SessionEnded, "what this token allows was changed");
                self.revoke(peer, error);
                continue;
            }
            self.access.check_when_expired(new.expires, self.now);
            if let Some(known) = self.peers.find(peer) {
                known.grant = Some(Arc::new(new));
            }
        }
    }

    /// Closes a connection whose rights have ended. Its runs end as if it were lost, but that is not charged to the
    /// jobs.
    fn revoke(&mut self, peer: PeerId, error: WireError) {
        let Some(known) = self.peers.find(peer) else {
            return;
        };
        let who = known.grant.as_ref().map(|grant| grant.identity().1.to_owned());
        tracing::info!(peer = peer.0, from = %known.info, who, "a peer's rights have ended: {}", error.message);
        if let Some(session) = known.session.and_then(|id| self.sessions.find(id)) {
            session.revoked = true;
        }
        self.outbox.close(peer, Some(error), CloseReason::Refused);
        self.forget_peer(peer);
    }
}

/// The same words for whatever is wrong with a token: who tries them learns nothing.
fn bad_token() -> WireError {
    WireError::new(ErrorCode::BadToken, "the token is not accepted")
}

/// Too many tokens are tried from a place; whether this one is right was not looked at.
fn no_turn() -> WireError {
    WireError::new(
        ErrorCode::TooManyPeers,
        "wrong tokens come from this address, and others wait to hear about theirs; try again later",
    )
}

pub(super) fn forbidden(message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::Forbidden, message)
}

/// Why a job or a worker of this name is refused: the same whether the server knows the name or not.
pub(super) fn forbidden_name(name: &str) -> WireError {
    forbidden(format!("this token is not for jobs of the name {name}"))
}
