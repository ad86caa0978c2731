using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

[NonParallelizable] // the environment is the process's
public class ErrorReportTests
{
    [TearDown]
    public void Restore() => Environment.SetEnvironmentVariable(ErrorReport.DebugVariable, null);

    [Test]
    public void ExitCodesSayWhoseMistakeItWas()
    {
        Assert.That(Report(new UsageException("wrong.")).Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(Report(new ArgumentException("wrong.")).Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(Report(new KCacheException("broken.")).Code, Is.EqualTo(ExitCode.Failure));
        Assert.That(Report(new IOException("disk.")).Code, Is.EqualTo(ExitCode.Failure));
        Assert.That(Report(new InvalidOperationException("defect")).Code, Is.EqualTo(ExitCode.Failure));
        Assert.That(Report(new OperationCanceledException()).Code, Is.EqualTo(ExitCode.Cancelled));
    }

    [Test]
    public void WhateverAMessageHoldsItIsOneLine() =>
        Assert.That(Report(new KCacheException("one\r\n  two\nthree\n")).Text, Is.EqualTo("kcache: one two three\n"));

    [Test]
    public void ADefectNamesItselfAndHowToSeeMore() =>
        Assert.That(Report(new InvalidOperationException("x")).Text, Does.Contain("InvalidOperationException").And.Contain("KCACHE_DEBUG=1"));

    [Test]
    public void TheStackIsShownOnRequestOnly()
    {
        Assert.That(Report(Thrown()).Text, Does.Not.Contain("   at "));

        Environment.SetEnvironmentVariable(ErrorReport.DebugVariable, "1");
        Assert.That(Report(Thrown()).Text, Does.Contain("   at ").And.Contain(nameof(Thrown)));
    }

    private static Exception Thrown()
    {
        try
        {
            throw new KCacheException("broken.");
        }
        catch (KCacheException e)
        {
            return e;
        }
    }

    private static (int Code, string Text) Report(Exception exception)
    {
        using var writer = new StringWriter { NewLine = "\n" };
        return (ErrorReport.Write(exception, writer), writer.ToString());
    }
}
