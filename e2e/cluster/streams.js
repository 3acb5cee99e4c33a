// Connections held open for load.sh: each virtual user keeps one WebSocket, and opens another when it is closed.
import { WebSocket } from 'k6/websockets';
import { sleep } from 'k6';

export const options = {
  scenarios: {
    streams: { executor: 'constant-vus', vus: Number(__ENV.RATE), duration: __ENV.DURATION, gracefulStop: '1s' },
  },
  summaryTrendStats: [],
};

export default function () {
  const socket = new WebSocket(__ENV.TARGET_URL, null, { headers: { Host: __ENV.TARGET_HOST } });
  const seen = { opened: 0, closed: 0, version: '', messages: 0, unanswered: 0, code: 0, error: '' };
  let timer;
  socket.onopen = () => {
    seen.opened = Date.now() / 1000;
    timer = setInterval(() => {
      seen.unanswered += 1;
      socket.send('?');
    }, 500);
  };
  socket.onmessage = (message) => {
    seen.version = message.data;
    seen.messages += 1;
    seen.unanswered = 0;
  };
  socket.onerror = (e) => { seen.error = e.error || 'unknown'; };
  socket.onclose = (e) => {
    clearInterval(timer);
    seen.closed = Date.now() / 1000;
    seen.code = (e && e.code) || 0;
    // The console is the record: one line per connection, written when it has ended.
    console.log(JSON.stringify(seen));
    if (!seen.opened) sleep(0.2);
  };
}
