await new Promise(() => {});

export default function never(): void {}
