//! Certificates that are about to expire, or have.
//!
//! The first that people notice of it otherwise is that nobody gets in.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use jobq_transport::ServerTls;

/// From so long before a certificate expires, the log says so.
const NEAR: Duration = Duration::from_secs(14 * DAY);

/// How often it is looked at, and the log says so again.
const EVERY: Duration = Duration::from_secs(DAY);

/// Seconds of a day.
const DAY: u64 = 24 * 3_600;

/// Says so in the log if a server's certificate has expired or soon will.
pub(crate) fn warn(tls: &ServerTls) {
    let Some(expires) = tls.expires() else { return };
    if let Some(left) = nearness(expires, SystemTime::now()) {
        tracing::warn!(
            path = %tls.certificate().display(),
            "the server's certificate {left}; put another one in its place, and send SIGHUP"
        );
    }
}

/// Looks at it once a day, for as long as this is polled.
pub(crate) async fn watch(tls: ServerTls) -> Infallible {
    daily(|| warn(&tls)).await
}

/// Looks once a day, for the first time in a day: at the start it was done already.
async fn daily(mut look: impl FnMut()) -> Infallible {
    let mut days = tokio::time::interval(EVERY);
    days.tick().await; // The first is at once.
    loop {
        days.tick().await;
        look();
    }
}

/// How near the end is, in words, if it is.
fn nearness(expires: SystemTime, now: SystemTime) -> Option<String> {
    let days = |length: Duration| length.as_secs() / DAY;
    match expires.duration_since(now) {
        Ok(left) if left >= NEAR => None,
        Ok(left) if days(left) == 0 => Some("expires within a day".to_owned()),
        Ok(left) if days(left) == 1 => Some("expires in a day".to_owned()),
        Ok(left) => Some(format!("expires in {} days", days(left))),
        Err(_) => Some("has expired: nobody connects who looks at it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_at_once_a_day() {
        let mut looks = 0;
        tokio::select! {
            never = daily(|| looks += 1) => match never {},
            () = tokio::time::sleep(7 * EVERY + EVERY / 2) => {}
        }
        assert_eq!(looks, 7);
    }

    #[test]
    fn what_expires_in_less_than_14_days_is_near_and_what_has_expired_too() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600);
        let second = Duration::from_secs(1);
        let at = |expires| nearness(expires, now);
        assert_eq!(at(now + NEAR), None);
        assert_eq!(at(now + NEAR - second).as_deref(), Some("expires in 13 days"));
        assert_eq!(at(now + second).as_deref(), Some("expires within a day"));
        let expired = at(now - second).expect("it is over");
        assert!(expired.contains("has expired"), "{expired}");
    }
}
