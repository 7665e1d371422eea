//! What each figure means.

/// Shown after the flags by `jobq bench --help`.
pub(super) const FIGURES: &str = "\
What is measured:
  Each scenario has a server of its own (`jobq serve`, a process of its own) on a fresh store, and clients and
  workers in this process, over loopback TCP. A job's params are one CBOR byte string, and its handler does
  nothing. Afterwards the jobs counted here, by the server and in the store have to agree, or the run fails.

  speed         jobs in the time from the first job handed to a client (submit, flow), or from the start of the
                workers (drain), until the last job is acknowledged (submit) or all are settled (drain, flow)
  acknowledged  from handing a batch to the client until the program has its receipts; the batch waits its turn
                behind those before it. With --rate from the millisecond in which the job was due, whatever the
                client was busy with
  started       from handing a job to the client until its handler is called; where more is submitted than is
                worked off, most of it is waiting in line
  settled       from the call of a job's handler until a client that watches the job is told of its end, which is
                on disk then; one job in a few hundred is watched
  result        from handing a job to the client until it has the job's result
  x fdatasync   a p50 and a p99 of latency in times of the disk's own sync
  handed out    how much later than acknowledged jobs are started, by the medians of both
  submitting, working
                in backlog: jobs a second that are submitted on top of the standing queue, and that are worked off
                it, 100,000 of each at most, in turns, five times; and the same on a server that has 100,000 queued.
                Its speed is of both together: a job is submitted and another worked off
  queue         in backlog: length of jobq.db and jobq.db-wal by queued jobs, and the server's memory, both before
                anything else is done
  fdatasync     4 KiB appended to a file in the same directory and synced, 200 times, the median
  server        CPU time of the server's process, and its resident memory at the end: in all, without that of files
                (anonymous), and at most
  client        CPU time of this process, in which clients and workers are

With --json: p50_us and p99_us are those of `acknowledged` in submit and latency, of `settled` in drain and of
`started` in flow; further ones have their names in front. Times in microseconds have names that end in _us,
multiples of fdatasync in _fdatasyncs, speeds in _per_s.

Examples:
  jobq bench
  jobq bench drain --jobs 2000000 --workers 4
  jobq bench submit --clients 1000 --batch 1 --outstanding 1
  jobq bench flow --rate 90000
  jobq bench --json | jq -r '[.scenario, .jobs_per_s] | @tsv'";
