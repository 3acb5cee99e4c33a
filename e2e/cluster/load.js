// Open-loop load for load.sh: requests start at a constant rate, however slow the answers are.
import http from 'k6/http';
import exec from 'k6/execution';

const rate = Number(__ENV.RATE);
export const options = {
  discardResponseBodies: true,
  noConnectionReuse: __ENV.REUSE === '0',
  scenarios: {
    load: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: __ENV.DURATION,
      // Each virtual user has one request at a time: enough of them that timeouts of 5 s do not slow the rate.
      preAllocatedVUs: Math.max(10, Math.ceil(rate / 2)),
      maxVUs: rate * 6,
      gracefulStop: '6s',
    },
  },
  summaryTrendStats: [],
};
const params = { headers: { Host: __ENV.TARGET_HOST }, timeout: '5s', redirects: 0 };

export default function () {
  const start = Date.now();
  const r = http.get(__ENV.TARGET_URL, params);
  // The console is the record: one line per request, written as soon as the answer is there.
  console.log(JSON.stringify({
    t: start / 1000,
    status: r.status,
    version: r.headers['X-App-Version'] || '',
    // k6 has no timings for a request without an answer.
    ms: r.status ? Math.round(r.timings.duration * 1000) / 1000 : Date.now() - start,
    error: r.error || '',
  }));
}
