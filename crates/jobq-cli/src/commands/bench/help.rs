//! What each scenario does and each figure means.

/// Shown after the flags by `jobq bench --help`.
pub(super) const FIGURES: &str = "\
What is measured:
  Each scenario has a server of its own (`jobq serve`, a process of its own) on a fresh store, and clients and
  workers in this process, over loopback TCP. A job's params are one CBOR byte string, and its handler does
  nothing. Afterwards the jobs counted here, by the server and in the store have to agree, or the run fails.

  submit        500,000 jobs are submitted, and nobody works
  drain         500,000 queued jobs are worked off
  flow          500,000 jobs are submitted and worked off at once
  latency       2,000 jobs, one at a time: the next is submitted when the result of the last one is there
  backlog       1,000,000 jobs are queued. On top of them up to 100,000 are submitted, and as many worked off, five
                times. The same in turns on a server of its own with 100,000 queued, to compare with
  idle          1,000 connections (--connections) do nothing but what keeps them alive, half of them clients and half
                workers that wait for a name without jobs. Then latency beside them, with 200 jobs
  names         200,000 jobs of 1,000 names (--names) are worked off, and then as many submitted and worked off at
                once, three times. The same in turns with one name on a server of its own, to compare with
  scheduled     100,000 jobs are due later, 10,000 a second (--rate), and submitted before the first is. Workers wait
                for them
  large         500 jobs with 1 MiB of params each are submitted, and meanwhile jobs of 100 bytes on a connection of
                their own, one at a time; then all are worked off
  restart       200,000 jobs are queued, and twice as many have completed. The server is killed (SIGKILL) and started
                again, and then stopped (SIGTERM) and started again
  prune         500,000 jobs are queued, worked off, and their records removed, which a server does that keeps them for
                a minute. After each of these the server is stopped. It is no part of all

The figures:
  speed         jobs in the time from the first job handed to a client (submit, flow, large), or from the start of the
                workers (drain, names), until the last job is acknowledged (submit, large) or all are settled (drain,
                flow, names). In prune records by the time from the first one gone to the last. In backlog jobs that were
                submitted and as many worked off, in the time of both; in scheduled from the time of the first job until
                all are settled; in restart all that fill the store
  acknowledged  from handing a batch to the client until the program has its receipts; the batch waits its turn
                behind those before it
  started       from handing a job to the client until its handler is called; where more is submitted than is
                worked off, most of it is waiting in line. With --rate this and acknowledged count from the
                millisecond in which the job came, whatever the client was busy with
  settled       from the call of a job's handler until a client that watches the job is told of its end, which is
                on disk then; one job in a few hundred is watched
  result        from handing a job to the client until it has the job's result
  x fdatasync   a p50 and a p99 of latency in times of the disk's own sync
  handed out    how much later than acknowledged jobs are started, by the medians of both
  submitting, working
                jobs a second beside the long queue of backlog and beside the short one
  queue         length of jobq.db and jobq.db-wal by queued jobs, and the server's memory, with the queue of backlog
                and before anything else is done
  connections   the server's memory with the idle connections less that before, by their number. What the system
                keeps for a connection is not in it
  idle, waiting CPU time of the server as a part of one core, and how often its threads were woken, while nothing
                happens (--observe): in idle but Beats, one of each connection every 120 s; in scheduled until the
                first job is due. The system tells CPU time in steps of 10 ms
  drain, flow   jobs a second with many names and with one
  late          from the time at which a job is due until its handler is called
  small jobs    from handing a small job to the client until it is acknowledged, beside the large ones
  moved         bytes of large params a second (1 MB is 1,000,000): until they are acknowledged, and worked off
  after kill, after stop
                from the start of the server's process until a client has connected and has the answer to a question,
                and until the handler of a worker is called that connects meanwhile
  store         length of jobq.db and jobq.db-wal by all jobs before the server is killed
  room          length of jobq.db with the server stopped: with all jobs queued, all completed, and no records left. An
                eighth of the pages stays free for what comes next, and 64 pages of 8 KiB at least
  fdatasync     4 KiB appended to a file in the same directory and synced, the median: of 200 before the jobs, and in
                latency and idle of 200 between the jobs, or of one before each
  server        CPU time of the server's process while its speed is measured, and its resident memory then: in all,
                without that of files (anonymous), and at most
  client        CPU time of this process, in which clients and workers are

With --json: p50_us and p99_us are those of the first time that is told: `acknowledged` in submit, latency, backlog,
idle, names, restart and prune, `settled` in drain, `started` in flow, `late` in scheduled, `small jobs` in large. All have
their names in front as well (ack, started, settled, result, late, small_ack). Times in microseconds have names that
end in _us, multiples of fdatasync in _fdatasyncs, speeds in _per_s, sizes in _bytes; what is compared with has _base_
in its name.

Examples:
  jobq bench
  jobq bench drain --jobs 2000000 --workers 4
  jobq bench submit --clients 1000 --batch 1 --outstanding 1
  jobq bench flow --rate 90000
  jobq bench backlog --jobs 10000000
  jobq bench idle --connections 10000
  jobq bench --json | jq -r '[.scenario, .jobs_per_s] | @tsv'";
