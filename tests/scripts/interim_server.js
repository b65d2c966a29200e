// A server of HTTP/2 in the clear and of HTTP/1.1 whose answers have others before them. `/hints` is answered in full only once `/go` was
// asked, so that who waits for the hints first gets the answer at all.
const http = require('http');
const http2 = require('http2');
const [, , port, port1] = process.argv;
let waiting = [];
const answer = (response, status, text) => { response.writeHead(status); response.end(text); };
const whole = (request, then) => {
  const chunks = [];
  request.on('data', (data) => chunks.push(data));
  request.on('end', () => then(Buffer.concat(chunks).toString()));
};
const serve = (request, response) => {
  request.on('error', () => {});
  response.on('error', () => {});
  if (request.url === '/hints') {
    response.writeEarlyHints({ link: '</first>; rel=preload' });
    response.writeEarlyHints({ link: '</second>; rel=preload' });
    waiting.push(() => answer(response, 200, 'hinted'));
  } else if (request.url === '/go') {
    waiting.forEach((go) => go());
    waiting = [];
    answer(response, 200, 'gone');
  } else {
    whole(request, (text) => answer(response, 200, text));
  }
};
// Asked with `Expect: 100-continue`.
const expects = (request, response) => {
  if (request.url === '/refuse') {
    answer(response, 401, 'no');
  } else if (request.url === '/silent') {
    whole(request, (text) => answer(response, 200, 'silent ' + text));
  } else {
    response.writeContinue();
    whole(request, (text) => answer(response, 200, 'asked ' + text));
  }
};
http.createServer(serve).on('checkContinue', expects).listen(Number(port1), '127.0.0.1');
http2.createServer(serve).on('checkContinue', expects).listen(Number(port), '127.0.0.1');
