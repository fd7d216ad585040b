//! Every interval of the operator, why it has its length, and where that comes from.

use std::time::Duration;

/// How long the passes that run get to end after SIGTERM. With [`RELEASE`] it stays below upstream's
/// terminationGracePeriodSeconds of 10, after which the kubelet kills.
pub const DRAIN: Duration = Duration::from_secs(7);

/// How long giving the lease back may take at shutdown; the next replica would have to wait out the lease's 15 s
/// otherwise, so one lost packet with its retransmission is worth waiting for.
pub const RELEASE: Duration = Duration::from_secs(2);

/// How long events that are queued may still be sent at shutdown: they are informational, so much less than [`DRAIN`].
pub const EVENT_FLUSH: Duration = Duration::from_millis(500);

/// How long one event may take: an API server that hangs must not hold up the ones behind it for long.
pub const EVENT_PUBLISH: Duration = Duration::from_secs(5);

/// How long an equal event is counted instead of sent anew; the window of client-go's event correlator.
pub const EVENT_SERIES: Duration = Duration::from_mins(10);

/// How often the log says that events can't be sent: once an hour tells, and a cluster without the permission isn't
/// flooded.
pub const EVENT_FAILURE_LOG: Duration = Duration::from_hours(1);
