// gRPC for load.sh: calls at a constant rate, or streams that are held open. TARGET_URL is an address, host:port.
import grpc from 'k6/net/grpc';
import { sleep } from 'k6';

const rate = Number(__ENV.RATE);
const streams = __ENV.STREAMS === '1';
export const options = {
  scenarios: {
    load: streams
      ? { executor: 'constant-vus', vus: rate, duration: __ENV.DURATION, gracefulStop: '1s' }
      : {
        executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: __ENV.DURATION,
        preAllocatedVUs: Math.max(10, Math.ceil(rate / 2)), maxVUs: rate * 6, gracefulStop: '6s',
      },
  },
  summaryTrendStats: [],
};
const client = new grpc.Client();
client.load([__ENV.PROTO_DIR], 'sample.proto');
let connected = false;

function call() {
  const start = Date.now();
  const r = client.invoke('sample.Sample/Ask', {}, { timeout: '5s' });
  const ok = r && r.status === grpc.StatusOK;
  const header = (r && r.headers && r.headers['x-app-version']) || [''];
  console.log(JSON.stringify({
    t: start / 1000,
    // 200 is well answered, as load.js has it; 0 is no answer; a code of gRPC is above 1000.
    status: ok ? 200 : header[0] ? 1000 + r.status : 0,
    version: header[0],
    ms: Date.now() - start,
    error: ok ? '' : JSON.stringify((r && r.error) || 'no answer'),
  }));
}

function watch() {
  const seen = { opened: 0, closed: 0, version: '', messages: 0, unanswered: 0, code: 0, error: '' };
  const stream = new grpc.Stream(client, 'sample.Sample/Watch');
  const end = () => {
    if (seen.closed) return;
    seen.closed = Date.now() / 1000;
    console.log(JSON.stringify(seen));
  };
  stream.on('data', (answer) => {
    seen.opened = seen.opened || Date.now() / 1000;
    seen.version = answer.version;
    seen.messages += 1;
  });
  stream.on('error', (e) => {
    seen.code = e.code || 0;
    seen.error = e.message || 'unknown';
    end();
  });
  stream.on('end', end);
  stream.write({});
  stream.end();
}

export default function () {
  if (!connected) {
    client.connect(__ENV.TARGET_URL, { plaintext: true, authority: __ENV.TARGET_HOST });
    connected = true;
  }
  if (streams) {
    watch();
    sleep(0.2);
  } else {
    call();
  }
}
